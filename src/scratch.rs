//! Memory that a thread uses again and again, for what is some thousand bytes long and gone after
//! a request.

use std::cell::RefCell;

/// More than nearly all texts are long; what is beyond it is given back.
const MOST_KEPT_BYTES: usize = 16 << 10;

/// A buffer, to be kept in a `thread_local!`.
#[derive(Debug, Default)]
pub struct Scratch(RefCell<Vec<u8>>);

impl Scratch {
    /// No memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Does `work` with the buffer, which is empty. Work within that work gets another one.
    pub fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut buffer = self.0.take();
        let done = work(&mut buffer);
        buffer.clear();
        buffer.shrink_to(MOST_KEPT_BYTES);
        self.0.replace(buffer);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_empty_each_time_whatever_was_left_in_it() {
        let scratch = Scratch::new();
        let lengths = [1, 3 * MOST_KEPT_BYTES, 5].map(|length| {
            scratch.with(|buffer| {
                let before = buffer.len();
                buffer.resize(length, 7);
                scratch.with(|inner| inner.push(1));
                (before, buffer.len())
            })
        });
        assert_eq!(lengths.map(|(before, _)| before), [0; 3]);
        assert_eq!(lengths.map(|(_, after)| after), [1, 3 * MOST_KEPT_BYTES, 5]);
        assert!(scratch.0.take().capacity() <= 2 * MOST_KEPT_BYTES);
    }
}
