//! What comes from other nodes: before it is known who they are, and after.

use flowstone_peer::call::frame::{AnswerHead, RequestHead};
use flowstone_peer::endpoint::Hello;
use flowstone_peer::identity::{ClusterId, NodeName, Side, Trust, TrustedCa, check};
use flowstone_peer::join::{JoinRequest, JoinToken, decode_answer};
use flowstone_peer::limits::{BODY_BYTES_MAX, CALL_BYTES_MAX, ENVELOPE_BYTES_MAX};
use flowstone_peer::{link, snapshot};
use flowstone_wire::NodeId;

/// Before: certificates, joiners, greetings, and texts that somebody pasted. The first byte chooses.
pub(super) fn stranger(data: &[u8]) {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    match first % 5 {
        0 => certificate(data),
        1 => {
            if let Ok(request) = JoinRequest::decode(data) {
                assert!(request.addresses.len() <= 8 && request.note.len() <= 4096);
            }
        }
        2 => {
            if let Ok(Ok(admitted)) = decode_answer(data) {
                assert!(admitted.trust.is_sound());
            }
        }
        3 => {
            if let Some(hello) = data.first_chunk().and_then(Hello::decode) {
                assert_eq!(hello.encode()[..], data[..9]);
            }
        }
        _ => {
            let text = String::from_utf8_lossy(data);
            if let Ok(token) = text.parse::<JoinToken>() {
                assert_eq!(token.to_text(), text.trim());
            }
            if let Ok(name) = text.parse::<NodeName>() {
                assert_eq!(name.to_string(), text);
            }
        }
    }
}

/// A certificate of somebody: it may be read, and is not believed.
fn certificate(data: &[u8]) {
    let authority = TrustedCa {
        certificate: include_bytes!("../inputs/peer-authority.der").to_vec(),
        until_s: u64::MAX,
    };
    let (trust, cluster) = (Trust::only(authority), ClusterId([1; 16]));
    let chain = [data.into()];
    let known = check(&chain, &trust, Side::Accepted, cluster, 1_800_000_000);
    if let Ok(node) = known {
        assert_eq!(node, NodeId(7), "only one certificate was issued");
        let issued = include_bytes!("../inputs/peer-certificate.der");
        assert_eq!(data, issued, "another certificate is believed");
    }
}

/// After: the frames of links, calls and snapshots. The first byte chooses.
pub(super) fn peer(data: &[u8]) {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    match first % 4 {
        0 => linked(data),
        1 => {
            let head = data.first_chunk().map(RequestHead::decode);
            if let Some(Ok(head)) = head {
                assert!(head.size as usize <= CALL_BYTES_MAX);
                assert_eq!(head.encode()[..], data[..10]);
            }
        }
        2 => {
            let head = data.first_chunk().map(AnswerHead::decode);
            if let Some(Ok(head)) = head {
                assert!(head.size as usize <= CALL_BYTES_MAX);
                assert_eq!(head.encode()[..], data[..5]);
            }
        }
        _ => {
            let head = data.first_chunk().map(snapshot::frame::Head::decode);
            if let Some(Ok(head)) = head {
                assert!(head.envelope_size as usize <= ENVELOPE_BYTES_MAX);
                assert_eq!(head.encode()[..], data[..8]);
            }
        }
    }
}

/// A message of a link, and its envelope alone.
fn linked(data: &[u8]) {
    let head = data.first_chunk().map(link::frame::Head::decode);
    if let Some(Ok(head)) = head {
        assert!(head.body_size as usize <= BODY_BYTES_MAX);
        assert_eq!(head.encode()[..], data[..8]);
        let end = 8 + head.envelope_size as usize;
        if let Some(envelope) = data.get(8..end) {
            taken(envelope);
        }
    }
    taken(data);
}

/// What was taken is written as the same again. Numbers may have been longer than need be.
fn taken(bytes: &[u8]) {
    let Ok(envelope) = link::frame::decode_envelope(bytes) else {
        return;
    };
    let mut out = Vec::new();
    link::frame::put_front(&mut out, &envelope, 0).expect("it came in as many bytes");
    assert!(out.len() <= bytes.len() + 8);
    let again = link::frame::decode_envelope(&out[8..]);
    assert_eq!(again, Ok(envelope));
}
