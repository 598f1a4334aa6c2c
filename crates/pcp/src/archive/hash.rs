//! The order in which PCP's tools list what they read from an archive.

/// A table that is listed in the order of PCP's own hash tables: by bucket, the latest entry of a bucket first. Tools
/// print metadata in this order, so whoever wants the same output needs the same order.
#[derive(Clone, Debug)]
pub struct PcpHash<T> {
    buckets: Vec<Vec<(u32, T)>>,
    len: usize,
}

impl<T> Default for PcpHash<T> {
    fn default() -> PcpHash<T> {
        PcpHash {
            buckets: Vec::new(),
            len: 0,
        }
    }
}

impl<T> PcpHash<T> {
    fn bucket(&self, key: u32) -> usize {
        key as usize % self.buckets.len().max(1)
    }

    /// An empty table made for so many entries.
    #[must_use]
    pub fn with_buckets(buckets: usize) -> PcpHash<T> {
        let mut table = PcpHash::default();
        table.buckets.resize_with(buckets.max(1), Vec::new);
        table
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry; keys may repeat, and the latest is found.
    pub fn insert(&mut self, key: u32, value: T) {
        self.len += 1;
        if self.buckets.is_empty() {
            self.buckets.push(Vec::new());
        } else if self.len / 4 > self.buckets.len() {
            self.grow();
        }
        let at = self.bucket(key);
        if let Some(bucket) = self.buckets.get_mut(at) {
            // The head of a chain is the end of the vector.
            bucket.push((key, value));
        }
    }

    fn grow(&mut self) {
        let mut size = self.buckets.len() * 2;
        size += size % 2;
        if !size.is_multiple_of(3) {
            size += 2;
        }
        if !size.is_multiple_of(5) {
            size += 2;
        }
        let old = std::mem::take(&mut self.buckets);
        self.buckets.resize_with(size, Vec::new);
        for bucket in old.into_iter().rev() {
            for (key, value) in bucket.into_iter().rev() {
                let at = self.bucket(key);
                if let Some(bucket) = self.buckets.get_mut(at) {
                    bucket.push((key, value));
                }
            }
        }
    }

    /// The latest entry of a key.
    #[must_use]
    pub fn get(&self, key: u32) -> Option<&T> {
        let bucket = self.buckets.get(self.bucket(key))?;
        bucket.iter().rev().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// The latest entry of a key, to be changed.
    pub fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        let at = self.bucket(key);
        let bucket = self.buckets.get_mut(at)?;
        bucket
            .iter_mut()
            .rev()
            .find(|(k, _)| *k == key)
            .map(|(_, v)| v)
    }

    /// All entries in PCP's order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.buckets
            .iter()
            .flat_map(|b| b.iter().rev())
            .map(|(k, v)| (*k, v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_in_the_order_of_pmdumplog() {
        // The descriptors of an archive as its metadata has them, and as pmdumplog -d lists them.
        let mut table = PcpHash::default();
        let pmid = |d, c, i| crate::Pmid::new(d, c, i).0;
        for key in [
            pmid(2, 3, 3),
            pmid(2, 3, 0),
            pmid(2, 3, 2),
            pmid(29, 0, 46),
            pmid(29, 0, 7),
            pmid(29, 0, 6),
            pmid(29, 0, 5),
            pmid(29, 0, 2),
        ] {
            table.insert(key, ());
        }
        let order: Vec<String> = table
            .iter()
            .map(|(k, ())| crate::Pmid(k).to_string())
            .collect();
        assert_eq!(
            order,
            [
                "29.0.46", "29.0.5", "2.3.0", "29.0.6", "29.0.7", "29.0.2", "2.3.2", "2.3.3"
            ]
        );
    }
}
