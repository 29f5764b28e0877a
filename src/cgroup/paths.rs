//! Where a process is in each hierarchy.

use std::sync::Arc;

/// The cgroup paths of a process, one for each hierarchy; `None` where it has none or lies
/// outside of what is mounted. Most of them are the same one, which is kept once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths(Arc<[Option<Arc<str>>]>);

impl Paths {
    /// The paths in the order of the hierarchies.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.iter().map(Option::as_deref)
    }

    /// Whether there is a path wherever `other` has one.
    #[must_use]
    pub fn cover(&self, other: &Self) -> bool {
        let mut pairs = self.iter().zip(other.iter());
        pairs.all(|(own, other)| own.is_some() || other.is_none())
    }

    /// The path in the hierarchy at this place.
    pub(super) fn get(&self, index: usize) -> Option<&Arc<str>> {
        self.0.get(index)?.as_ref()
    }

    /// As [`Paths::iter`].
    pub(super) fn shared(&self) -> impl Iterator<Item = Option<&Arc<str>>> {
        self.0.iter().map(Option::as_ref)
    }
}

impl<'a> FromIterator<Option<&'a str>> for Paths {
    fn from_iter<I: IntoIterator<Item = Option<&'a str>>>(paths: I) -> Self {
        let mut known: Vec<Option<Arc<str>>> = Vec::new();
        for path in paths {
            let path = path.map(|path| {
                let mut same = known.iter().flatten().filter(|known| ***known == *path);
                same.next().map_or_else(|| path.into(), Arc::clone)
            });
            known.push(path);
        }
        Self(known.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_paths_are_kept_once_and_each_stays_in_its_place() {
        let all = [Some("/a"), None, Some("/"), Some("/a")];
        let paths: Paths = all.into_iter().collect();
        assert!(paths.iter().eq(all));
        let [first, last] = [0, 3].map(|index| paths.get(index).unwrap());
        assert!(Arc::ptr_eq(first, last));
    }

    #[test]
    fn a_path_that_is_lacking_is_noticed() {
        let paths = |all: [Option<&str>; 2]| all.into_iter().collect::<Paths>();
        let one = paths([Some("/a"), None]);
        assert!(one.cover(&paths([Some("/b"), None])));
        assert!(!one.cover(&paths([Some("/a"), Some("/b")])));
    }
}
