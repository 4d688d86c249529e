//! Unit.
