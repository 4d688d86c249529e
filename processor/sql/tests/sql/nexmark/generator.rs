//! Events of the NEXMark benchmark: persons, auctions and bids of an auction house, 1 to 3 to 46, from a seed.
//!
//! The benchmark: Tucker, Tufte, Papadimos, Maier, "NEXMark: a benchmark for queries over data streams"; its fields
//! and proportions are those of <https://beam.apache.org/documentation/sdks/java/testing/nexmark/>, which the suite
//! <https://github.com/nexmark/nexmark> goes by. Texts and chance are our own, so events are not theirs bit by bit.

use serde_json::{Value, json};

/// Events of one round: a person, three auctions, then bids.
const ROUND: u64 = 50;
const AUCTIONS_OF_ROUND: u64 = 3;
/// The first person and auction.
const FIRST_ID: u64 = 1_000;
/// Categories are five numbers from here.
const FIRST_CATEGORY: u64 = 10;
/// Bids go to so many of the latest auctions.
const OPEN_AUCTIONS: u64 = 100;
/// Sellers and bidders are among so many of the latest persons.
const ACTIVE_PERSONS: u64 = 1_000;
/// Every so many auctions one is hot and gets half of the bids until the next one; persons alike.
const HOT_EVERY: u64 = 10;

const FIRST_NAMES: [&str; 8] = [
    "Ada", "Brian", "Chen", "Dora", "Emeka", "Fatima", "Goran", "Hana",
];
const LAST_NAMES: [&str; 6] = ["Abel", "Baker", "Costa", "Dietz", "Endo", "Fox"];
const PLACES: [(&str, &str); 8] = [
    ("Phoenix", "AZ"),
    ("Los Angeles", "CA"),
    ("San Francisco", "CA"),
    ("Boise", "ID"),
    ("Portland", "OR"),
    ("Bend", "OR"),
    ("Seattle", "WA"),
    ("Cheyenne", "WY"),
];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u64 = 10_000;

/// Numbers from a seed: xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        // The state must not be 0, and seeds that are near each other must not begin alike.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A text of small letters.
    fn text(&mut self, shortest: u64, longest: u64) -> String {
        let length = shortest + self.below(longest - shortest + 1);
        let letter = |_| char::from(b'a' + self.below(26) as u8);
        (0..length).map(letter).collect()
    }

    /// Prices from 100 to 100,000,000, as many below as above 100,000.
    fn price(&mut self) -> u64 {
        let exponent = self.below(6_000_000) as f64 / 1_000_000.0;
        (10_f64.powf(exponent) * 100.0).round() as u64
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) credit_card: String,
    pub(crate) city: &'static str,
    pub(crate) state: &'static str,
    pub(crate) date_time: i64,
    pub(crate) extra: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Auction {
    pub(crate) id: u64,
    pub(crate) item_name: String,
    pub(crate) description: String,
    pub(crate) initial_bid: u64,
    pub(crate) reserve: u64,
    pub(crate) date_time: i64,
    pub(crate) expires: i64,
    pub(crate) seller: u64,
    pub(crate) category: u64,
    pub(crate) extra: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Bid {
    pub(crate) auction: u64,
    pub(crate) bidder: u64,
    pub(crate) price: u64,
    pub(crate) channel: String,
    pub(crate) url: String,
    pub(crate) date_time: i64,
    pub(crate) extra: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Person(Person),
    Auction(Auction),
    Bid(Bid),
}

impl Event {
    /// Event time, milliseconds since 1970.
    pub(crate) fn date_time(&self) -> i64 {
        match self {
            Self::Person(p) => p.date_time,
            Self::Auction(a) => a.date_time,
            Self::Bid(b) => b.date_time,
        }
    }

    /// The topic that it goes to.
    pub(crate) fn topic(&self) -> &'static str {
        match self {
            Self::Person(_) => "person",
            Self::Auction(_) => "auction",
            Self::Bid(_) => "bid",
        }
    }

    /// The value of its record; times are milliseconds since 1970.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Person(p) => json!({
                "id": p.id, "name": p.name, "email": p.email, "credit_card": p.credit_card, "city": p.city,
                "state": p.state, "date_time": p.date_time, "extra": p.extra,
            }),
            Self::Auction(a) => json!({
                "id": a.id, "item_name": a.item_name, "description": a.description, "initial_bid": a.initial_bid,
                "reserve": a.reserve, "date_time": a.date_time, "expires": a.expires, "seller": a.seller,
                "category": a.category, "extra": a.extra,
            }),
            Self::Bid(b) => json!({
                "auction": b.auction, "bidder": b.bidder, "price": b.price, "channel": b.channel, "url": b.url,
                "date_time": b.date_time, "extra": b.extra,
            }),
        }
    }
}

/// Makes events one after the other.
pub(crate) struct Generator {
    chance: Chance,
    first_ms: i64,
    events_per_s: u64,
    next: u64,
}

impl Generator {
    /// The first event is at `first_ms` (since 1970), the others follow at this rate.
    pub(crate) fn new(seed: u64, first_ms: i64, events_per_s: u64) -> Self {
        Self {
            chance: Chance::new(seed),
            first_ms,
            events_per_s,
            next: 0,
        }
    }

    /// Persons and auctions that there were before event `n`, in this order.
    fn before(n: u64) -> (u64, u64) {
        let (round, place) = (n / ROUND, n % ROUND);
        let auctions = round * AUCTIONS_OF_ROUND + place.saturating_sub(1).min(AUCTIONS_OF_ROUND);
        (round + place.min(1), auctions)
    }

    /// How long it takes until there are so many new auctions.
    fn auctions_ms(&self, count: u64) -> u64 {
        count * ROUND * 1_000 / AUCTIONS_OF_ROUND / self.events_per_s
    }

    /// One of the latest of `count` things, half of the time the hot one.
    fn recent(&mut self, count: u64, latest: u64) -> u64 {
        let last = count.saturating_sub(1);
        let number = match self.chance.below(2) {
            0 => last / HOT_EVERY * HOT_EVERY,
            _ => last - self.chance.below(count.clamp(1, latest)),
        };
        FIRST_ID + number
    }

    fn person(&mut self, number: u64, date_time: i64) -> Person {
        let chance = &mut self.chance;
        let (city, state) = chance.one_of(&PLACES);
        let name = format!(
            "{} {}",
            chance.one_of(&FIRST_NAMES),
            chance.one_of(&LAST_NAMES)
        );
        let email = format!("{}@{}.com", chance.text(3, 7), chance.text(3, 5));
        let four = (0..4).map(|_| format!("{:04}", chance.below(10_000)));
        let credit_card = four.collect::<Vec<_>>().join(" ");
        Person {
            id: FIRST_ID + number,
            name,
            email,
            credit_card,
            city,
            state,
            date_time,
            extra: self.chance.text(0, 100),
        }
    }

    fn auction(&mut self, number: u64, persons: u64, date_time: i64) -> Auction {
        let seller = self.recent(persons, ACTIVE_PERSONS);
        let longest_ms = 2 * self.auctions_ms(OPEN_AUCTIONS);
        let chance = &mut self.chance;
        let initial_bid = chance.price();
        Auction {
            id: FIRST_ID + number,
            item_name: chance.text(4, 20),
            description: chance.text(20, 100),
            initial_bid,
            reserve: initial_bid + chance.price(),
            date_time,
            expires: date_time + 1 + chance.below(longest_ms.max(1)) as i64,
            seller,
            category: FIRST_CATEGORY + chance.below(5),
            extra: chance.text(0, 200),
        }
    }

    fn bid(&mut self, persons: u64, auctions: u64, date_time: i64) -> Bid {
        let auction = self.recent(auctions, OPEN_AUCTIONS);
        let bidder = self.recent(persons, ACTIVE_PERSONS);
        let chance = &mut self.chance;
        let dirs = [(); 3].map(|()| chance.text(5, 5)).join("/");
        let mut url = format!("https://www.nexmark.com/{dirs}/item.htm?query=1");
        let channel = match chance.below(2) {
            0 => chance.one_of(&HOT_CHANNELS).to_string(),
            _ => {
                let number = chance.below(CHANNELS);
                if chance.below(10) > 0 {
                    url.push_str(&format!("&channel_id={}", number * 7_919));
                }
                format!("channel-{number}")
            }
        };
        Bid {
            auction,
            bidder,
            price: chance.price(),
            channel,
            url,
            date_time,
            extra: chance.text(0, 60),
        }
    }
}

impl Iterator for Generator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let n = self.next;
        self.next += 1;
        let date_time = self.first_ms + (n * 1_000 / self.events_per_s) as i64;
        let (persons, auctions) = Self::before(n);
        Some(match n % ROUND {
            0 => Event::Person(self.person(persons, date_time)),
            place if place <= AUCTIONS_OF_ROUND => {
                Event::Auction(self.auction(auctions, persons, date_time))
            }
            _ => Event::Bid(self.bid(persons, auctions, date_time)),
        })
    }
}
