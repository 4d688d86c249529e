//! A record as a stage sees it: borrowed from a batch, or from the stage before.

use flowstone_wire::{Header, Offset, PartitionId, RecordView};

/// A record inside a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Partition of the input record that caused this one.
    pub partition: PartitionId,
    /// Offset of the input record that caused this one.
    pub offset: Offset,
    /// Event time, milliseconds since 1970.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

/// The headers of a record, wherever they stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    view: Option<&'a RecordView<'a>>,
    slice: &'a [Header<'a>],
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const NONE: Headers<'static> = Headers {
        view: None,
        slice: &[],
    };

    /// The headers, in the order they were given.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        self.view
            .into_iter()
            .flat_map(|view| view.headers())
            .chain(self.slice.iter().copied())
    }

    /// The value of the first header of this name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|h| h.name == name.as_bytes())
            .and_then(|h| h.value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> From<&'a RecordView<'a>> for Headers<'a> {
    fn from(view: &'a RecordView<'a>) -> Self {
        Self {
            view: Some(view),
            slice: &[],
        }
    }
}

impl<'a> From<&'a [Header<'a>]> for Headers<'a> {
    fn from(slice: &'a [Header<'a>]) -> Self {
        Self { view: None, slice }
    }
}

impl<'a, const N: usize> From<&'a [Header<'a>; N]> for Headers<'a> {
    fn from(slice: &'a [Header<'a>; N]) -> Self {
        Self { view: None, slice }
    }
}

impl<'a> From<&'a Vec<Header<'a>>> for Headers<'a> {
    fn from(slice: &'a Vec<Header<'a>>) -> Self {
        Self { view: None, slice }
    }
}
