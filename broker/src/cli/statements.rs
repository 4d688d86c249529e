//! Files of SQL.

use super::Failed;
use std::io::Read;
use std::path::Path;

/// The text of a file; `-` is standard input.
pub(super) fn read(file: &Path) -> Result<String, Failed> {
    let mut text = String::new();
    let result = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut f| f.read_to_string(&mut text))
    };
    match result {
        Ok(_) => Ok(text),
        Err(e) => Err(Failed::new(1, format!("'{}': {e}", file.display()))),
    }
}
