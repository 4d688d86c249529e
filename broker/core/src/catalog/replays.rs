//! Pipelines that are done again under another name, and then take the place of the first ones.
//!
//! ```text
//! replay:  NAME --> topic NAME             NAME.replay (from offsets) --> topic NAME.replay
//! switch:           topic NAME.before      NAME (number of the replay) --> topic NAME
//! ```
//!
//! A switch is one command: whoever reads the catalog sees all of it or nothing. Topics keep their numbers and
//! partitions, so what is under way arrives.

use super::topics::unknown_topic;
use super::{Catalog, Deployed, Event, Row};
use flowstone_wire::native::Topic;
use flowstone_wire::{ErrorCode, Failure, Offset, PartitionId};
use std::collections::BTreeMap;

/// Where a pipeline begins to read, by partition.
pub type Starts = BTreeMap<PartitionId, Offset>;

impl Catalog {
    /// Notes pipelines; the first of them begins at these offsets.
    pub(super) fn replay(
        &mut self,
        pipelines: Vec<(String, Deployed)>,
        starts: Starts,
    ) -> Result<(Event, Vec<Row>), Failure> {
        let first = pipelines.first().map(|(name, _)| name.clone());
        let (event, mut rows) = self.deploy(BTreeMap::new(), pipelines)?;
        if let Some(name) = first {
            rows.push(Row::starts(&name, Some(&starts)));
            self.starts.insert(name, starts);
        }
        Ok((event, rows))
    }

    /// Gives pipelines the names of others, which end, and topics other names, in this order: all or nothing.
    pub(super) fn switch(
        &mut self,
        pipelines: Vec<(String, String, Deployed)>,
        topics: &[(String, String)],
    ) -> Result<(Event, Vec<Row>), Failure> {
        for (from, to, _) in &pipelines {
            self.deployed_as(from)?;
            self.deployed_as(to)?;
        }
        if let Some((from, ..)) = pipelines.first().filter(|p| !self.is_replay(&p.0)) {
            let what = format!("pipeline '{from}' does not do another one again");
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        let (renamed, mut rows) = self.renamed(topics)?;
        self.topics = renamed;
        for (from, to, deployed) in pipelines {
            rows.extend(self.take_place(&from, &to, deployed));
        }
        Ok((Event::Deployed, rows))
    }

    /// The topics under their new names, and what changes in the rows.
    fn renamed(
        &self,
        names: &[(String, String)],
    ) -> Result<(BTreeMap<String, Topic>, Vec<Row>), Failure> {
        let (mut topics, mut rows) = (self.topics.clone(), Vec::new());
        for (from, to) in names {
            flowstone_wire::name::check("topic", to)?;
            if topics.contains_key(to) {
                let what = format!("there is a topic '{to}' already: delete it");
                return Err(Failure::new(ErrorCode::TopicExists, what));
            }
            let mut topic = topics.remove(from).ok_or_else(|| unknown_topic(from))?;
            rows.extend(Row::no_topic(from));
            // Its group was called like it.
            topic.settings.placement.get_or_insert_with(|| from.clone());
            topic.name.clone_from(to);
            topics.insert(to.clone(), topic);
        }
        let now = names.iter().filter_map(|(_, to)| topics.get(to));
        rows.extend(now.map(Row::topic));
        Ok((topics, rows))
    }

    /// A pipeline goes on under the name of another one, which ends.
    fn take_place(&mut self, from: &str, to: &str, deployed: Deployed) -> Vec<Row> {
        self.deployed.remove(from);
        let paused = self.deployed.get(to).is_some_and(|d| d.paused);
        let deployed = Deployed { paused, ..deployed };
        let id = self.pipelines.remove(from).unwrap_or_default();
        let mut rows = vec![
            Row::deployed(from, None),
            Row::no_pipeline(from),
            Row::deployed(to, Some(&deployed)),
            Row::pipeline(to, id),
        ];
        self.deployed.insert(to.to_string(), deployed);
        self.pipelines.insert(to.to_string(), id);
        self.starts.remove(to);
        let starts = self.starts.remove(from);
        rows.push(Row::starts(from, None));
        rows.push(Row::starts(to, starts.as_ref()));
        self.starts
            .extend(starts.map(|starts| (to.to_string(), starts)));
        rows
    }

    /// Whether a pipeline, or the first part of one, was begun to do another one again.
    pub fn is_replay(&self, pipeline: &str) -> bool {
        self.starts.contains_key(pipeline)
    }

    /// Where a pipeline begins to read, if it does not at the start of what there is.
    pub fn starts_of(&self, pipeline: &str) -> Option<&Starts> {
        self.starts.get(pipeline)
    }
}
