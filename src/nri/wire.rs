//! The wire format of protocol buffers, as far as these messages need it
//! (<https://protobuf.dev/programming-guides/encoding/>).

use std::borrow::Cow;

/// A message that is cut off or no message at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub struct Malformed;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer or a truth value.
    Number(u64),
    /// Text, bytes, or a message.
    Bytes(&'a [u8]),
    /// A number of fixed size, of which there are none in these messages.
    Fixed,
}

impl<'a> Value<'a> {
    /// The bytes of text or of a message; of anything else none.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) | Self::Fixed => &[],
        }
    }

    /// Text; what is no UTF-8 in it becomes U+FFFD.
    #[must_use]
    pub fn text(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes())
    }

    /// A number, zero for anything else.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) | Self::Fixed => 0,
        }
    }
}

/// The fields of a message, with their numbers, in the order of their bytes.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Those of the message in `bytes`.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// A message that is being written.
#[derive(Debug, Default, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    /// Adds a number; zero is what a missing field means.
    #[must_use]
    pub fn number(mut self, field: u64, number: u64) -> Self {
        if number != 0 {
            self.varint(field << 3);
            self.varint(number);
        }
        self
    }

    /// Adds a text; an empty one is what a missing field means.
    #[must_use]
    pub fn text(self, field: u64, text: &str) -> Self {
        if text.is_empty() {
            self
        } else {
            self.bytes(field, text.as_bytes())
        }
    }

    /// Adds one element for each text of a list.
    #[must_use]
    pub fn texts<'a>(self, field: u64, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let add = |message: Self, text: &str| message.bytes(field, text.as_bytes());
        texts.into_iter().fold(self, add)
    }

    /// Adds a message, also an empty one.
    #[must_use]
    pub fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, &message.into_bytes())
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Its bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push((number & 0x7f) as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        Fields::of(bytes).collect()
    }

    /// The bytes that the documentation of the format gives for these values.
    #[test]
    fn values_are_written_as_the_format_says() {
        assert_eq!(
            Message::default().number(1, 150).into_bytes(),
            [0x08, 0x96, 0x01]
        );
        let text = Message::default().text(2, "testing").into_bytes();
        assert_eq!(text, *b"\x12\x07testing");
        let inner = Message::default().number(1, 150);
        let outer = Message::default().message(3, inner).into_bytes();
        assert_eq!(outer, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(
            Message::default().number(1, 0).text(2, "").into_bytes(),
            b""
        );
        let list = Message::default().texts(4, ["", "a"]).into_bytes();
        assert_eq!(list, *b"\x22\x00\x22\x01a");
    }

    #[test]
    fn fields_of_all_kinds_are_told_apart() {
        let bytes = b"\x08\x96\x01\x11........\x1a\x02hi\x25....";
        let expected = [
            (1, Value::Number(150)),
            (2, Value::Fixed),
            (3, Value::Bytes(b"hi")),
            (4, Value::Fixed),
        ];
        assert_eq!(all(bytes).unwrap(), expected);
        assert_eq!(all(b"").unwrap(), []);
    }

    #[test]
    fn a_value_of_another_kind_counts_as_empty() {
        assert_eq!(Value::Number(7).text(), "");
        assert_eq!(Value::Bytes(b"7").number(), 0);
        assert_eq!(Value::Fixed.bytes(), b"");
        assert_eq!(Value::Bytes(b"a\xff").text(), "a\u{fffd}");
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        let endless = [0xff; 11];
        let huge = b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        for bytes in [
            &b"\x08"[..],
            b"\x0a\x05four",
            b"\x09.......",
            b"\x0d...",
            b"\x0b\x0c",
            b"\x0e",
            &endless,
            huge,
        ] {
            assert_eq!(all(bytes), Err(Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_comes_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
        }

        #[test]
        fn what_was_written_is_read(fields in prop::collection::vec((1u64..1 << 29, any::<u64>(), ".*"), 0..20)) {
            let mut message = Message::default();
            for (field, number, text) in &fields {
                message = message.number(*field, number | 1).bytes(*field, text.as_bytes());
            }
            let bytes = message.into_bytes();
            let read = all(&bytes).unwrap();
            let written: Vec<_> = fields
                .iter()
                .flat_map(|(field, number, text)| {
                    [(*field, Value::Number(number | 1)), (*field, Value::Bytes(text.as_bytes()))]
                })
                .collect();
            prop_assert_eq!(read, written);
        }
    }
}
