//! What nodes say to one another, and what one says that wants to become a node.

use flowstone_core::replica::{
    Envelope, EpochTable, Header, LogId, Member, Message, Span, Standing,
};
use flowstone_peer::call::frame::{AnswerHead, RequestHead, Status};
use flowstone_peer::endpoint::Hello;
use flowstone_peer::identity::authority::Issued;
use flowstone_peer::identity::{ClusterId, NodeName, Trust, TrustedCa};
use flowstone_peer::join::{Admitted, Answer, JoinRefusal, MemberAddress};
use flowstone_peer::{link, snapshot};
use flowstone_wire::{ConfigVersion, Epoch, Incarnation, Lsn, NodeId, ShardId};

const AUTHORITY: &[u8] = include_bytes!("../inputs/peer-authority.der");
const CERTIFICATE: &[u8] = include_bytes!("../inputs/peer-certificate.der");
const REQUEST: &[u8] = include_bytes!("../inputs/peer-join-request.bin");
const TOKEN: &str = "fsj1.bdWwvgWHDC8zQHgIXe06BtvNcwGNGCyeidTuDiW4nnIyXN2-";

fn chosen(choice: u8, bytes: &[u8]) -> Vec<u8> {
    [&[choice], bytes].concat()
}

fn postcard<T: serde::Serialize>(choice: u8, value: &T) -> Vec<u8> {
    chosen(choice, &postcard::to_allocvec(value).unwrap())
}

/// Before it is known who somebody is.
pub(super) fn strangers() -> Vec<Vec<u8>> {
    let address = "127.0.0.1:7400".parse().unwrap();
    let (node, cluster) = (NodeId(7), ClusterId([1; 16]));
    let admitted: Answer = Ok(Admitted {
        node,
        cluster,
        issued: Issued {
            certificate: CERTIFICATE.to_vec(),
            issuer: AUTHORITY.to_vec(),
            from_s: 1_800_000_000,
            until_s: 1_900_000_000,
        },
        trust: Trust::only(TrustedCa {
            certificate: AUTHORITY.to_vec(),
            until_s: 1_900_000_000,
        }),
        members: vec![MemberAddress {
            node: NodeId(1),
            addresses: vec![address],
        }],
        note: Vec::new(),
    });
    let refused: Answer = Err(JoinRefusal::NotNow("no majority".into()));
    let name = NodeName { node, cluster };
    vec![
        chosen(0, CERTIFICATE),
        chosen(0, AUTHORITY),
        chosen(1, REQUEST),
        postcard(2, &admitted),
        postcard(2, &refused),
        chosen(3, &Hello { flag: 1, life: 77 }.encode()),
        chosen(4, TOKEN.as_bytes()),
        chosen(4, name.to_string().as_bytes()),
    ]
}

fn envelope(message: Message) -> Envelope {
    let member = |node| Member {
        node: NodeId(node),
        incarnation: Incarnation(u64::from(node) << 40),
    };
    Envelope {
        header: Header {
            shard: ShardId(3),
            epoch: Epoch(9),
            version: ConfigVersion(70),
            from: member(1),
            to: member(2),
        },
        message,
    }
}

fn messages() -> Vec<Message> {
    let (epoch, first, last) = (Epoch(9), Lsn(1000), Lsn(1007));
    let id = LogId { epoch, lsn: last };
    let mut epochs = EpochTable::based_on(LogId::default());
    assert!(epochs.push(Epoch(2), Lsn(10)) && epochs.push(epoch, first));
    let span = Some(Span {
        epoch,
        first,
        last,
        bytes: 65_536,
    });
    let (committed, sent_us) = (Lsn(990), 1_800_000);
    vec![
        Message::Seal,
        Message::Follow { epochs, sent_us },
        Message::Append {
            span,
            committed,
            sent_us,
        },
        Message::Append {
            span: None,
            committed,
            sent_us,
        },
        Message::Snapshot { last: id },
        Message::Sealed { end: id },
        Message::Ack {
            standing: Standing::Following,
            written: last,
            durable: first,
            echo_us: sent_us,
        },
        Message::Refused,
    ]
}

/// After.
pub(super) fn peers() -> Vec<Vec<u8>> {
    let framed = |message| {
        let mut out = vec![0];
        link::frame::put_front(&mut out, &envelope(message), 100).unwrap();
        out
    };
    let mut all: Vec<Vec<u8>> = messages().into_iter().map(framed).collect();
    let request = RequestHead {
        kind: 300,
        within_ms: 5000,
        size: 1 << 20,
    };
    let answer = AnswerHead {
        status: Status::Refused,
        size: 4000,
    };
    let snapshot = snapshot::frame::Head {
        envelope_size: 40,
        manifest_size: 1000,
    };
    all.push(chosen(1, &request.encode()));
    all.push(chosen(2, &answer.encode()));
    all.push(chosen(3, &snapshot.encode()));
    all
}
