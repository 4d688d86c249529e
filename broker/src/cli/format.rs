//! Numbers for people, and records in the format they asked for.

use crate::http::record_as_json;
use flowstone_wire::RecordView;
use std::io::{self, Write};

/// Bytes in the unit that fits.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Milliseconds in the unit that fits.
pub(super) fn millis(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// How records are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The value and a line feed.
    Value,
    /// A JSON object a line.
    Json,
    /// Pieces of text and fields.
    Pieces(Vec<Piece>),
}

/// A piece of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "value" => return Ok(Self::Value),
            "json" => return Ok(Self::Json),
            _ => {}
        }
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (
                c,
                if matches!(c, '%' | '\\') {
                    chars.next()
                } else {
                    None
                },
            ) {
                ('\\', Some('n')) => plain.push('\n'),
                ('\\', Some('t')) => plain.push('\t'),
                ('\\', Some('\\')) => plain.push('\\'),
                ('%', Some('%')) => plain.push('%'),
                ('%', Some(field)) => {
                    let piece = field_of(field)
                        .ok_or_else(|| format!("'%{field}' is not one of %p %o %t %k %v %h %%"))?;
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(piece);
                }
                ('%' | '\\', other) => {
                    let shown = other.map_or(String::new(), String::from);
                    return Err(format!("'{c}{shown}' means nothing in a format"));
                }
                (c, _) => plain.push(c),
            }
        }
        pieces.push(Piece::Text(plain));
        pieces.retain(|p| *p != Piece::Text(String::new()));
        Ok(Self::Pieces(pieces))
    }
}

fn field_of(field: char) -> Option<Piece> {
    Some(match field {
        'p' => Piece::Partition,
        'o' => Piece::Offset,
        't' => Piece::Timestamp,
        'k' => Piece::Key,
        'v' => Piece::Value,
        'h' => Piece::Headers,
        _ => return None,
    })
}

impl Format {
    /// Prints a record of the partition with this index.
    pub(super) fn print(
        &self,
        out: &mut impl Write,
        index: u32,
        r: &RecordView<'_>,
    ) -> io::Result<()> {
        match self {
            Self::Value => {
                out.write_all(r.value.unwrap_or_default())?;
                out.write_all(b"\n")
            }
            Self::Json => writeln!(out, "{}", record_as_json(index, r)),
            Self::Pieces(pieces) => pieces
                .iter()
                .try_for_each(|piece| piece.print(out, index, r)),
        }
    }
}

impl Piece {
    fn print(&self, out: &mut impl Write, index: u32, r: &RecordView<'_>) -> io::Result<()> {
        match self {
            Self::Text(text) => out.write_all(text.as_bytes()),
            Self::Partition => write!(out, "{index}"),
            Self::Offset => write!(out, "{}", r.offset),
            Self::Timestamp => write!(out, "{}", r.timestamp),
            Self::Key => out.write_all(r.key.unwrap_or_default()),
            Self::Value => out.write_all(r.value.unwrap_or_default()),
            Self::Headers => {
                for (i, h) in r.headers().enumerate() {
                    out.write_all(if i > 0 { b"," } else { b"" })?;
                    out.write_all(h.name)?;
                    out.write_all(b"=")?;
                    out.write_all(h.value.unwrap_or_default())?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_parse_and_mistakes_are_told() {
        let f: Format = "%p:%o\\t%k=%v%%\\n".parse().unwrap();
        let Format::Pieces(pieces) = f else {
            panic!("{f:?}")
        };
        assert_eq!(pieces.len(), 8, "{pieces:?}");
        assert!("%x".parse::<Format>().unwrap_err().contains("%x"));
        assert!("a\\q".parse::<Format>().is_err());
        assert!("%".parse::<Format>().is_err());
        assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
    }

    #[test]
    fn numbers_are_given_in_the_unit_that_fits() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(millis(90_000), "90 s");
        assert_eq!(millis(86_400_000 * 3), "3 d");
    }
}
