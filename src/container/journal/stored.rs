//! How values are written into the journal: little-endian, field after field in the
//! order of the listing, without names or padding.

use std::collections::HashMap;
use std::hash::Hash;

use crate::cgroup::account::{CpuUsage, DeviceIo, Hugetlb, Memory, MemoryStat, Swap};
use crate::cgroup::{Directory, Limit};
use crate::parse::cpu_list::CpuSet;

/// A value that outlives the process.
pub(in crate::container) trait Stored: Sized {
    /// Appends the value.
    fn store(&self, out: &mut Vec<u8>);

    /// Takes the value off the front of `input`; `None` if there is no such value.
    fn restore(input: &mut &[u8]) -> Option<Self>;
}

/// Makes a struct [`Stored`]: `stored!(Type { every, field })`.
///
/// A field that is not listed does not compile. Those in `later { field }` have their
/// default where a record of an earlier release ends before them. One that need not outlive the process is
/// listed in `except { field }`, and has its default afterwards. `if Type::is_sound`
/// refuses values that the arithmetic cannot stand.
macro_rules! stored {
    (
        $type:ident { $($field:ident),* $(,)? }
        $(later { $($later:ident),* $(,)? })?
        $(except { $($other:ident),* $(,)? })?
        $(if $is_sound:path)?
    ) => {
        impl $crate::container::journal::stored::Stored for $type {
            fn store(&self, out: &mut Vec<u8>) {
                let Self { $($field,)* $($($later,)*)? $($($other: _,)*)? } = self;
                $($crate::container::journal::stored::Stored::store($field, out);)*
                $($($crate::container::journal::stored::Stored::store($later, out);)*)?
            }

            fn restore(input: &mut &[u8]) -> Option<Self> {
                let restored = Self {
                    $($field: $crate::container::journal::stored::Stored::restore(input)?,)*
                    $($($later: if input.is_empty() {
                        Default::default()
                    } else {
                        $crate::container::journal::stored::Stored::restore(input)?
                    },)*)?
                    $($($other: Default::default(),)*)?
                };
                Some(restored)$(.filter($is_sound))?
            }
        }
    };
}
pub(in crate::container) use stored;

stored!(CpuUsage {
    user_nsec,
    system_nsec,
    nice_nsec,
    throttled_nsec,
    per_cpu_nsec,
});

stored!(DeviceIo {
    major,
    minor,
    reads,
    writes,
    discards,
    read_bytes,
    written_bytes,
    discarded_bytes,
});

stored!(Memory {
    limit_bytes,
    usage_bytes,
    stat,
    swap,
    hugetlb,
});

stored!(Swap {
    limit_bytes,
    usage_bytes,
});

stored!(Hugetlb {
    page_kb,
    limit_bytes,
    usage_bytes,
});

stored!(MemoryStat {
    anon,
    file,
    kernel,
    kernel_stack,
    pagetables,
    sec_pagetables,
    percpu,
    sock,
    vmalloc,
    shmem,
    zswap,
    zswapped,
    file_mapped,
    file_dirty,
    file_writeback,
    swapcached,
    anon_thp,
    file_thp,
    shmem_thp,
    inactive_anon,
    active_anon,
    inactive_file,
    active_file,
    unevictable,
    slab_reclaimable,
    slab_unreclaimable,
    slab,
    pgfault,
    pgmajfault,
});

stored!(Directory {
    hierarchy,
    path,
    inode,
});

macro_rules! stored_integers {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            fn store(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn restore(input: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = input.split_first_chunk()?;
                *input = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}
stored_integers!(u8, u32, u64);

impl Stored for usize {
    fn store(&self, out: &mut Vec<u8>) {
        (*self as u64).store(out);
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        u64::restore(input)?.try_into().ok()
    }
}

impl Stored for bool {
    fn store(&self, out: &mut Vec<u8>) {
        u8::from(*self).store(out);
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        match u8::restore(input)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Stored> Stored for Option<T> {
    fn store(&self, out: &mut Vec<u8>) {
        self.is_some().store(out);
        if let Some(value) = self {
            value.store(out);
        }
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        match bool::restore(input)? {
            true => T::restore(input).map(Some),
            false => Some(None),
        }
    }
}

impl<T: Stored> Stored for Vec<T> {
    fn store(&self, out: &mut Vec<u8>) {
        self.len().store(out);
        self.iter().for_each(|value| value.store(out));
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        let count = usize::restore(input)?;
        // Every value takes a byte at least: a wrong count ends with the input.
        let mut values = Self::new();
        while values.len() < count {
            values.push(T::restore(input)?);
        }
        Some(values)
    }
}

impl<K: Stored + Eq + Hash, V: Stored> Stored for HashMap<K, V> {
    fn store(&self, out: &mut Vec<u8>) {
        self.len().store(out);
        for (key, value) in self {
            key.store(out);
            value.store(out);
        }
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        Some(Vec::restore(input)?.into_iter().collect())
    }
}

impl<A: Stored, B: Stored> Stored for (A, B) {
    fn store(&self, out: &mut Vec<u8>) {
        self.0.store(out);
        self.1.store(out);
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        Some((A::restore(input)?, B::restore(input)?))
    }
}

impl<T: Stored, const N: usize> Stored for [T; N] {
    fn store(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.store(out));
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        let values: Option<Vec<T>> = (0..N).map(|_| T::restore(input)).collect();
        values?.try_into().ok()
    }
}

impl Stored for String {
    fn store(&self, out: &mut Vec<u8>) {
        self.len().store(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        let length = usize::restore(input)?;
        let (text, rest) = input.split_at_checked(length)?;
        *input = rest;
        Self::from_utf8(text.to_vec()).ok()
    }
}

impl Stored for Limit {
    fn store(&self, out: &mut Vec<u8>) {
        match self {
            Self::Max => None,
            Self::Value(value) => Some(*value),
        }
        .store(out);
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        Some(Option::restore(input)?.map_or(Self::Max, Self::Value))
    }
}

impl Stored for CpuSet {
    fn store(&self, out: &mut Vec<u8>) {
        self.iter().collect::<Vec<usize>>().store(out);
    }

    fn restore(input: &mut &[u8]) -> Option<Self> {
        Some(Vec::<usize>::restore(input)?.into_iter().collect())
    }
}
