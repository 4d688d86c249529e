//! The settings of the tier: `[tier]` of the file.

use crate::config::Error;
use flowstone_tier::{Settings, TierError};
use flowstone_wire::native::TierStatus;
use serde::Deserialize;
use serde::de::Error as _;

/// How long a small segment waits before it is uploaded, where the settings do not say.
const UPLOAD_AFTER_MS: u64 = 600_000;

/// Settings of the tier.
#[derive(Clone, Debug, PartialEq)]
pub struct TierConfig {
    /// The bucket and how it is used.
    pub store: Settings,
    /// How long a segment that is smaller than an eighth of a segment of the log waits before it is
    /// uploaded, in milliseconds: until then it may be put together with others. By the node's clock, from
    /// when it was settled or from the start; times that producers give have no say in it.
    pub upload_after_ms: u64,
    /// What the bucket costs, for the estimate in the status.
    pub prices: Option<Prices>,
}

/// What a bucket costs, in whatever currency.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// A GB (10^9 bytes) for a month.
    pub gb_month: f64,
    /// A thousand requests that write or list.
    pub thousand_puts: f64,
    /// A thousand requests that read.
    pub thousand_gets: f64,
    /// A GB that is read.
    pub gb_read: f64,
}

const MONTH_S: f64 = 30.0 * 86_400.0;
/// A node that runs for less is taken for one that did so much in an hour: a start is not a month.
const HOUR_S: f64 = 3600.0;

impl Prices {
    /// Cost of a month with what is stored now and requests at the rate of the last `up_s` seconds.
    pub(crate) fn month(&self, status: &TierStatus, up_s: f64) -> f64 {
        let puts = (status.put_requests + status.list_requests) as f64 / 1000.0;
        let gets = status.get_requests as f64 / 1000.0;
        let read = status.down_bytes as f64 / 1e9;
        let so_far = puts * self.thousand_puts + gets * self.thousand_gets + read * self.gb_read;
        status.copied_bytes as f64 / 1e9 * self.gb_month + so_far * MONTH_S / up_s.max(HOUR_S)
    }
}

#[derive(Deserialize)]
struct Own {
    #[serde(default = "upload_after_ms")]
    upload_after_ms: u64,
    prices: Option<Prices>,
}

fn upload_after_ms() -> u64 {
    UPLOAD_AFTER_MS
}

impl<'de> Deserialize<'de> for TierConfig {
    /// The settings of the store stand beside our own, and unknown ones are refused: serde cannot do
    /// both by itself.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut store = toml::Table::deserialize(from)?;
        let own: toml::Table = ["upload_after_ms", "prices"]
            .into_iter()
            .filter_map(|name| store.remove_entry(name))
            .collect();
        let own: Own = own.try_into().map_err(D::Error::custom)?;
        Ok(Self {
            store: store.try_into().map_err(D::Error::custom)?,
            upload_after_ms: own.upload_after_ms,
            prices: own.prices,
        })
    }
}

impl TierConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`Error::Tier`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        let checked = self.store.check();
        checked.map_err(|e: TierError| Error::Tier(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_costs_what_is_stored_and_what_is_asked() {
        let prices = Prices {
            gb_month: 2.0,
            thousand_puts: 5.0,
            thousand_gets: 1.0,
            gb_read: 10.0,
        };
        let status = TierStatus {
            copied_bytes: 3_000_000_000,
            put_requests: 1000,
            get_requests: 2000,
            down_bytes: 500_000_000,
            ..TierStatus::default()
        };
        // A month's worth of requests in half a month is two of them in a month.
        assert_eq!(prices.month(&status, MONTH_S / 2.0), 6.0 + 2.0 * 12.0);
    }

    #[test]
    fn the_bucket_and_our_own_settings_stand_in_one_table() {
        let text = "url = 's3://b/p'\nupload_after_ms = 5\nprices = { gb_month = 1.0, \
                    thousand_puts = 2.0, thousand_gets = 3.0, gb_read = 4.0 }";
        let config: TierConfig = toml::from_str(text).unwrap();
        assert_eq!(config.upload_after_ms, 5);
        assert_eq!(config.store.url, "s3://b/p");
        assert_eq!(config.prices.unwrap().gb_read, 4.0);
        assert!(toml::from_str::<TierConfig>("url = 'file:///x'\nurll = 'y'").is_err());
        assert!(
            toml::from_str::<TierConfig>("upload_after_ms = 5").is_err(),
            "no url"
        );
    }
}
