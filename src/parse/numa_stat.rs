//! `memory.numa_stat` (kernel: Documentation/admin-guide/cgroup-v2.rst and
//! cgroup-v1/memory.rst).

/// Figures of a cgroup by node: bytes or counts on v2, pages on v1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaStat {
    lines: Vec<(String, Vec<(usize, u64)>)>,
}

impl NumaStat {
    /// Parses the lines whose keys start with `prefix`, which is taken off: v1 has
    /// those that cover the cgroups below as `hierarchical_KEY`. Parts of another form
    /// are dropped.
    #[must_use]
    pub fn parse(text: &str, prefix: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            // v1 has the sum of all nodes behind the key.
            let key = words.next()?.split('=').next()?.strip_prefix(prefix)?;
            let nodes = words.filter_map(|word| {
                let (node, value) = word.strip_prefix('N')?.split_once('=')?;
                Some((node.parse().ok()?, value.parse().ok()?))
            });
            Some((key.to_owned(), nodes.collect()))
        });
        Self {
            lines: lines.collect(),
        }
    }

    /// Whether the kernel tells of `key`.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.lines.iter().any(|(known, _)| known == key)
    }

    /// The value of `key` on a node; 0 if the kernel tells of none.
    #[must_use]
    pub fn get(&self, key: &str, node: usize) -> u64 {
        let line = self.lines.iter().find(|(known, _)| known == key);
        let nodes = line.map(|(_, nodes)| nodes.iter()).unwrap_or_default();
        let mut values = nodes.filter(|(id, _)| *id == node).map(|(_, value)| *value);
        values.next().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_format_of_v2() {
        let stat = NumaStat::parse("anon N0=4096 N2=8192\nfile N0=0 N2=12\n", "");
        assert_eq!((stat.get("anon", 0), stat.get("anon", 2)), (4096, 8192));
        assert_eq!((stat.get("anon", 1), stat.get("shmem", 0)), (0, 0));
        assert!(stat.has("file") && !stat.has("shmem"));
    }

    #[test]
    fn reads_what_v1_counts_with_the_cgroups_below() {
        let text = "total=9 N0=4 N1=5\nhierarchical_total=16 N0=10 N1=6\n";
        let stat = NumaStat::parse(text, "hierarchical_");
        assert_eq!((stat.get("total", 0), stat.get("total", 1)), (10, 6));
    }

    #[test]
    fn drops_what_is_no_figure() {
        let stat = NumaStat::parse("\nanon N0=x Ny=1 3 N1=7\n  \nfile\n", "");
        assert_eq!((stat.get("anon", 0), stat.get("anon", 1)), (0, 7));
        assert_eq!(stat.get("file", 0), 0);
    }
}
