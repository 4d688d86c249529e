//! planted
#![cfg(test)]
