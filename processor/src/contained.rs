//! Code of others that may panic over what it is given: where it is contained, the panic becomes a value.
//!
//! A broker ends with a panic, since a thread less would be one that only seems to run. Its hook asks [`current`]
//! whether somebody catches this one.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Who catches the panics of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Containment {
    /// Nobody.
    None,
    /// The runtime that its tasks run on, which does not tell why: the hook should.
    Runtime,
    /// Whoever called [`contained`], who tells.
    Caller,
}

thread_local! {
    static CONTAINMENT: Cell<Containment> = const { Cell::new(Containment::None) };
}

/// Who catches the panics of this thread now.
pub fn current() -> Containment {
    CONTAINMENT.get()
}

/// From now on the panics of this thread are caught by the runtime that it belongs to.
pub fn contain_thread() {
    CONTAINMENT.set(Containment::Runtime);
}

/// Calls `work`. What it has borrowed mutably is not to be used as it is behind a panic.
///
/// # Errors
/// What it said when it panicked.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CONTAINMENT.replace(Containment::Caller);
    let done = catch_unwind(AssertUnwindSafe(work));
    CONTAINMENT.set(before);
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it says nothing").to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_text_and_containment_ends_with_the_call() {
        assert_eq!(contained(|| 7), Ok(7));
        assert_eq!(
            contained(|| assert_eq!(current(), Containment::Caller)),
            Ok(())
        );
        let index = std::hint::black_box(3);
        let told = contained(|| [1, 2][index]).unwrap_err();
        assert!(told.contains("index out of bounds"), "{told}");
        assert_eq!(contained(|| -> () { panic!("plain") }), Err("plain".into()));
        assert_eq!(current(), Containment::None);
    }
}
