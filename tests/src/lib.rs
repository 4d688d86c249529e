//! Nothing but a place for the tests of the whole workspace to hang on.
#![forbid(unsafe_code)]
