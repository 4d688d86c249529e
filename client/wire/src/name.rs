//! Names that users give: topics, consumer groups, pipelines.
//!
//! They never become file names, but they appear in URLs, metrics and terminals, so the alphabet is
//! narrow: `A-Z a-z 0-9 . _ -`, 1 to 200 bytes, not `.` or `..`, not starting with `-` or `__`.

use crate::error::{ErrorCode, Failure};
use crate::limits::NAME_BYTES_MAX;

/// Checks a name that came from outside.
///
/// # Errors
/// [`ErrorCode::InvalidName`] with the rule that is broken. The name itself is shown escaped and cut.
pub fn check(kind: &str, name: &str) -> Result<(), Failure> {
    let broken = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "it is longer than 200 bytes"
    } else if name == "." || name == ".." {
        "it is a path"
    } else if name.starts_with('-') {
        "it starts with '-'"
    } else if name.starts_with("__") {
        "names that start with '__' are internal"
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        "it has a character outside A-Z a-z 0-9 . _ -"
    } else {
        return Ok(());
    };
    let shown: String = name
        .chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect();
    Err(Failure::new(
        ErrorCode::InvalidName,
        format!("{kind} name '{shown}' is refused: {broken}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_like_and_strange_names_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "a\0b",
            "-x",
            "__offsets",
            "a b",
            "ü",
            &"x".repeat(201),
        ] {
            assert_eq!(
                check("topic", bad).unwrap_err().code,
                ErrorCode::InvalidName,
                "{bad:?}"
            );
        }
        for good in ["a", "orders.dlq", "A-1_b", &"x".repeat(200)] {
            check("topic", good).unwrap();
        }
    }

    #[test]
    fn the_message_cannot_carry_control_characters() {
        let err = check("topic", "a\u{1b}[31m\n").unwrap_err();
        assert!(
            err.message.chars().all(|c| !c.is_control()),
            "{}",
            err.message
        );
    }
}
