//! Cursors of person pages: the rank key of the last person on a page, as text.

use crate::error::Error;
use crate::index::ranking::RankKey;

/// The beginning of a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cursor {
    Start,
    After(RankKey),
}

impl Cursor {
    /// Parses the parameter `cursor`; `None` without the parameter.
    pub fn parse(text: Option<&str>) -> Result<Option<Self>, Error> {
        let text = match text {
            None => return Ok(None),
            Some("") => return Ok(Some(Self::Start)),
            Some(text) => text,
        };
        let mut bytes = [0; 12];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| Error::field("cursor", "The cursor is not valid."))?;
        let [a, b, c, d, e, f, g, h, ordinal @ ..] = bytes;
        Ok(Some(Self::After(RankKey {
            created_at: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            ordinal: u32::from_be_bytes(ordinal),
        })))
    }

    /// The cursor after a person, as text.
    pub fn after(key: RankKey) -> String {
        let mut bytes = key.created_at.to_be_bytes().to_vec();
        bytes.extend(key.ordinal.to_be_bytes());
        hex::encode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_parsed_as_it_was_written() {
        for (created_at, ordinal) in [(0, 0), (-5, 7), (i64::MAX, u32::MAX)] {
            let key = RankKey {
                created_at,
                ordinal,
            };
            let text = Cursor::after(key);
            assert_eq!(
                Cursor::parse(Some(&text)).unwrap(),
                Some(Cursor::After(key))
            );
        }
        assert_eq!(Cursor::parse(None).unwrap(), None);
        assert_eq!(Cursor::parse(Some("")).unwrap(), Some(Cursor::Start));
    }

    #[test]
    fn an_invalid_cursor_is_an_error() {
        for text in ["x", "00", "é", "000000000000000000000000ff"] {
            assert!(Cursor::parse(Some(text)).is_err(), "{text}");
        }
    }
}
