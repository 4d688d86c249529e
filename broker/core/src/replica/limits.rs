//! Bounds of time and bytes of a replica.

/// Bounds of time and bytes. None of them is needed for safety.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A leader is silent towards a follower no longer than this, in microseconds.
    pub heartbeat_us: u64,
    /// What is not answered within this is sent again.
    pub resend_us: u64,
    /// A leader that has not heard a majority for so long is in doubt.
    pub doubt_us: u64,
    /// A leader asks for a member to leave the set that it has not heard for so long.
    pub drop_us: u64,
    /// The catalog is asked again after so long.
    pub ask_us: u64,
    /// A report comes every so often.
    pub report_us: u64,
    /// Bytes on the way to a follower that it has not told to be durable; one chunk always may.
    pub window_bytes: u64,
    /// Small writes are sent in pieces of up to this.
    pub chunk_bytes: u64,
    /// A learner that lacks no more than this is admitted; under load a window is always on its way.
    pub admit_bytes: u64,
}

const _: () = assert!(Limits::DEFAULT.admit_bytes >= Limits::DEFAULT.window_bytes);
const _: () = assert!(Limits::DEFAULT.heartbeat_us * 4 <= Limits::DEFAULT.doubt_us);
const _: () = assert!(Limits::DEFAULT.doubt_us < Limits::DEFAULT.drop_us);

impl Limits {
    const DEFAULT: Self = Self {
        heartbeat_us: 50_000,
        resend_us: 200_000,
        doubt_us: 1_000_000,
        drop_us: 10_000_000,
        ask_us: 500_000,
        report_us: 500_000,
        window_bytes: 16 << 20,
        chunk_bytes: 1 << 20,
        admit_bytes: 16 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
