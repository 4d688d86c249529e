//! The tier against stores that fail, and against a real S3 server.
#![allow(clippy::unwrap_used, reason = "tests may")]

mod buckets;
mod cache;
mod crash;
mod faults;
mod fencing;
mod probe;
mod s3_server;
mod segments;
mod upload;
mod ways_in;
