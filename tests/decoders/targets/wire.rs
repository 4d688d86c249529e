//! The native protocol: fixed parts, headers of every request and answer; names and keys.

use flowstone_wire::frame::{self, PREFIX_BYTES, Prefix};
use flowstone_wire::native::{self, Request};
use flowstone_wire::partitioner::partition_for_key;
use flowstone_wire::{ErrorCode, Failure, limits, name as names};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The fixed part of a frame, byte by byte as it arrives.
pub(super) fn frame(data: &[u8]) {
    let whole = Prefix::decode(data);
    for end in 0..data.len().min(PREFIX_BYTES) {
        match Prefix::decode(&data[..end]) {
            Ok(None) => {}
            early => assert_eq!(early, whole, "{end} bytes say something else than all"),
        }
    }
    let Ok(Some(prefix)) = whole else { return };
    assert!(prefix.frame_bytes() <= limits::FRAME_BYTES_MAX + frame::SIZE_BYTES);
    assert!(prefix.header_size as usize <= limits::FRAME_HEADER_BYTES_MAX);
    if prefix.version == frame::VERSION {
        let header = vec![0; prefix.header_size as usize];
        let (correlation, payload) = (prefix.correlation, prefix.payload_size as usize);
        let mut out = Vec::new();
        frame::put_front(&mut out, prefix.api, correlation, &header, payload);
        assert_eq!(
            out[..PREFIX_BYTES],
            data[..PREFIX_BYTES],
            "a prefix is its bytes"
        );
    }
}

/// A header: the first byte chooses whose, the rest is postcard.
pub(super) fn native(data: &[u8]) {
    const PAIRS: [fn(&[u8], bool); 21] = [
        of::<native::Hello>,
        of::<native::ListTopics>,
        of::<native::CreateTopic>,
        of::<native::DeleteTopic>,
        of::<native::Produce>,
        of::<native::Fetch>,
        of::<native::FindOffset>,
        of::<native::InitProducer>,
        of::<native::CommitOffsets>,
        of::<native::ReadOffsets>,
        of::<native::DescribeTopic>,
        of::<native::ListPipelines>,
        of::<native::ListGroups>,
        of::<native::ListShards>,
        of::<native::GetTier>,
        of::<native::GetCluster>,
        of::<native::ChangeCluster>,
        of::<native::DeployPipelines>,
        of::<native::DescribePipelines>,
        of::<native::ControlPipeline>,
        of::<native::MakeToken>,
    ];
    if let Some((first, header)) = data.split_first() {
        PAIRS[usize::from(first & 0x7f) % PAIRS.len()](header, first & 0x80 != 0);
    }
}

fn of<R: Request>(header: &[u8], answer: bool) {
    if answer {
        round_trip::<Result<R::Answer, Failure>>(header);
    } else {
        round_trip::<R>(header);
    }
}

/// What was taken is written as the same value again. Numbers may have been longer than need be, so
/// the bytes may be fewer.
fn round_trip<T: Serialize + DeserializeOwned>(header: &[u8]) {
    let taken = match native::decode::<T>(header) {
        Ok(taken) => taken,
        Err(failure) => return assert_eq!(failure.code, ErrorCode::InvalidRequest),
    };
    let bytes = native::encode(&taken).expect("what was decoded can be encoded");
    assert!(bytes.len() <= header.len());
    let again: T = native::decode(&bytes).expect("what was encoded can be decoded");
    assert_eq!(native::encode(&again).as_ref(), Ok(&bytes));
}

/// A name, which is a key as well.
pub(super) fn name(data: &[u8]) {
    let partitions = u32::from(data.first().copied().unwrap_or_default());
    let index = partition_for_key(data, partitions);
    assert!(index < partitions.max(1));
    let text = String::from_utf8_lossy(data);
    match names::check("topic", &text) {
        Ok(()) => {
            assert!(text.len() <= limits::NAME_BYTES_MAX);
            assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b'/'));
        }
        Err(failure) => {
            assert_eq!(failure.code, ErrorCode::InvalidName);
            assert!(failure.message.len() < 1024);
            assert!(
                !failure.message.chars().any(char::is_control),
                "it reaches a terminal"
            );
        }
    }
}
