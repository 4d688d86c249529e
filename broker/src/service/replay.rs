//! Doing a pipeline again beside itself, and putting the result in its place.
//!
//! ```text
//! replay:  NAME.replay begins at the offsets of a time and writes topics of its own
//! switch:  when it has read as far as NAME, it becomes NAME, and its topics become those of NAME;
//!          those that were are called NAME.before
//! ```

use super::Service;
use super::sql::{Part, parts_of, plan_as};
use flowstone_core::catalog::{Command, Deployed, Starts};
use flowstone_sql::front_name;
use flowstone_wire::native::{FindOffset, PipelineStatus, Place};
use flowstone_wire::{ErrorCode, Failure, PartitionId};
use std::sync::Arc;

/// Behind the name of a pipeline that is done again.
const REPLAY: &str = ".replay";
/// Behind the names of topics that were replaced.
const BEFORE: &str = ".before";

impl Service {
    /// Begins to do a pipeline again from the records of a time on; from the start without one.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] where there is no such pipeline, where others read its results, or where
    /// topics are in the way; what the catalog and the shards say.
    pub(super) async fn replay_sql(
        self: Arc<Self>,
        name: String,
        from_ms: Option<i64>,
    ) -> Result<(), Failure> {
        let (this, of) = (self.clone(), name.clone());
        let (parts, renames) = self.aside(move || this.plan_replay(&of)).await?;
        let before = self.catalog().deployed_as(&name)?.clone();
        let starts = self.starts(&parts, from_ms).await?;
        for (first, replay) in pairs(&name, &renames) {
            self.clone().make_like(first, replay, &parts).await?;
        }
        for part in &parts {
            self.clone().topics_of(&part.pipeline).await?;
        }
        let deployed = |part: Part| {
            let deployed = Deployed {
                plan: part.explained,
                paused: false,
                ..before.clone()
            };
            (part.pipeline.name().to_string(), deployed)
        };
        let pipelines = parts.into_iter().map(deployed).collect();
        let command = Command::Replay { pipelines, starts };
        self.clone().command(command).await?;
        self.follow_deployed().await;
        Ok(())
    }

    /// How a pipeline is done again, and how its topics are called afterwards.
    fn plan_replay(&self, name: &str) -> Result<(Vec<Part>, Names), Failure> {
        let catalog = self.catalog();
        let replay = format!("{name}{REPLAY}");
        let is_one = |name: &str| catalog.is_replay(name) || catalog.is_replay(&front_name(name));
        if name.ends_with(REPLAY) && is_one(name) {
            let what = format!("'{name}' is a replay itself: switch it or delete it");
            return Err(refused(what));
        }
        if catalog.pipeline(&replay).is_some() {
            let what = match is_one(&replay) {
                true => format!("'{name}' is being done again: switch, or delete '{replay}'"),
                false => format!("there is a pipeline '{replay}', and a replay would be called so"),
            };
            return Err(refused(what));
        }
        self.refuse_readers(name)?;
        let parts = self.parts_as(name, &replay)?;
        let renames = self.renames(name)?;
        let missing = renames.iter().map(|(from, _)| from);
        let missing = missing.filter(|from| !from.starts_with(&replay));
        let missing = list(missing.filter(|from| catalog.topic(from).is_err()));
        if !missing.is_empty() {
            let what = format!("pipeline '{name}' has lost topics ({missing}): deploy it anew");
            return Err(refused(what));
        }
        let news = renames
            .iter()
            .map(|(from, to)| match from.starts_with(&replay) {
                true => from,
                false => to,
            });
        let taken = list(news.filter(|topic| catalog.topic(topic).is_ok()));
        if !taken.is_empty() {
            let what = format!("there are topics of an earlier replay: delete {taken}");
            return Err(refused(what));
        }
        Ok((parts, renames))
    }

    /// Makes the topic of a replay with the settings and as many partitions as the first one.
    async fn make_like(
        self: Arc<Self>,
        first: &str,
        replay: &str,
        parts: &[Part],
    ) -> Result<(), Failure> {
        let exchange = |p: &Part| {
            let sink = p.pipeline.exchange()?;
            p.pipeline.sinks().get(sink.index()).cloned()
        };
        if parts
            .iter()
            .any(|p| exchange(p).is_some_and(|e| e == replay))
        {
            return Ok(());
        }
        let topic = self.catalog().topic(first)?.clone();
        let mut settings = topic.settings;
        settings.placement.get_or_insert(topic.name);
        let partitions = topic.partitions.len() as u32;
        self.create_topic(replay.to_string(), partitions, settings)
            .await?;
        Ok(())
    }

    /// Puts what was done again in the place of a pipeline.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] as long as it has not read as far; [`ErrorCode::InvalidRequest`] where nothing was
    /// done again, where the pipeline was upgraded meanwhile, or where others read the results; what the
    /// catalog says.
    pub(super) async fn switch_sql(self: Arc<Self>, name: String) -> Result<(), Failure> {
        let catalog = self.catalog();
        let replay = format!("{name}{REPLAY}");
        let (Ok(now), Ok(again)) = (catalog.deployed_as(&name), catalog.deployed_as(&replay))
        else {
            let what = format!("'{name}' is not being done again: `flowstone pipeline replay`");
            return Err(refused(what));
        };
        if (&now.statement, &now.streams) != (&again.statement, &again.streams) {
            let what = format!(
                "'{name}' is not what '{replay}' does again (any more): delete '{replay}' and its topics, and \
                 begin again"
            );
            return Err(refused(what));
        }
        let (this, of, from) = (self.clone(), name.clone(), replay.clone());
        let planned = self.aside(move || {
            this.refuse_readers(&of)?;
            this.refuse_readers(&from)?;
            Ok((this.parts_as(&from, &of)?, this.renames(&of)?))
        });
        let (parts, topics) = planned.await?;
        self.refuse_behind(&name, &replay).await?;
        let deployed = again.clone();
        let next = |(from, part): (String, Part)| {
            let deployed = Deployed {
                plan: part.explained,
                ..deployed.clone()
            };
            (from, part.pipeline.name().to_string(), deployed)
        };
        let from = self.parts_of_deployed(&replay)?;
        let is_spread = from.len() > 1;
        let pipelines = from.into_iter().zip(parts).map(next).collect();
        let command = Command::Switch { pipelines, topics };
        self.clone().command(command).await?;
        self.follow_deployed().await;
        if is_spread {
            // Its rows mean nothing to anybody.
            let exchange = front_name(&format!("{name}{BEFORE}"));
            self.delete_topic(exchange).await?;
        }
        Ok(())
    }

    /// The parts of a pipeline that was deployed, as they are under another name.
    fn parts_as(&self, name: &str, as_name: &str) -> Result<Vec<Part>, Failure> {
        let count = self.parts_of_deployed(name)?.len();
        let catalog = self.catalog();
        let planned = plan_as(as_name, catalog.deployed_as(name)?)?;
        let parts = parts_of(&planned, if count > 1 { usize::MAX } else { 1 });
        match parts.len() == count {
            true => Ok(parts),
            false => Err(refused(format!(
                "this version plans '{name}' otherwise: delete it and deploy it again"
            ))),
        }
    }

    /// What has other pipelines behind it stays as it is: they would take results twice.
    fn refuse_readers(&self, name: &str) -> Result<(), Failure> {
        let results = self.results(name)?;
        let catalog = self.catalog();
        for (other, deployed) in catalog.deployed() {
            let part = super::sql::plan(other, deployed);
            let reads = |p: &Part| p.pipeline.sources().iter().any(|s| results.contains(s));
            if other != name && part.as_ref().is_ok_and(reads) {
                let what = format!(
                    "pipeline '{other}' reads what '{name}' gives out, and would take it twice: delete it \
                     first, and deploy it again afterwards"
                );
                return Err(refused(what));
            }
        }
        Ok(())
    }

    /// The topics that a pipeline writes, with that of its exchange.
    fn results(&self, name: &str) -> Result<Vec<String>, Failure> {
        let mut all = Vec::new();
        for part in self.parts_as(name, name)? {
            all.extend(part.pipeline.sinks().iter().cloned());
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// How topics are called after a switch: what was first, then what was done again.
    fn renames(&self, name: &str) -> Result<Names, Failure> {
        let rest = |topic: &String| topic[name.len()..].to_string();
        let results = self.results(name)?;
        let before = results.iter().map(|topic| {
            let to = format!("{name}{BEFORE}{}", rest(topic));
            (topic.clone(), to)
        });
        let after = results.iter().map(|topic| {
            let from = format!("{name}{REPLAY}{}", rest(topic));
            (from, topic.clone())
        });
        Ok(before.chain(after).collect())
    }

    /// Where the first part begins to read.
    async fn starts(
        self: &Arc<Self>,
        parts: &[Part],
        from_ms: Option<i64>,
    ) -> Result<Starts, Failure> {
        let mut starts = Starts::new();
        let sources = parts.first().map(|part| part.pipeline.sources().to_vec());
        for (number, source) in sources.into_iter().flatten().enumerate() {
            let options = parts[0].pipeline.source_options(number as u16);
            // A table is what all of its records say.
            let Some(ms) = from_ms.filter(|_| !options.first) else {
                continue;
            };
            let topic = self.catalog().topic(&source)?.clone();
            for partition in topic.partitions {
                let partition = partition.id;
                let place = Place::Time(ms);
                let at = self.find_offset(FindOffset { partition, place });
                starts.insert(partition, at.await?);
            }
        }
        Ok(starts)
    }

    /// Whether a pipeline has read less than the one that it was begun beside.
    async fn refuse_behind(self: &Arc<Self>, name: &str, replay: &str) -> Result<(), Failure> {
        let parts = self.parts_of_deployed(name)?;
        // The first one is looked at first: what it reads meanwhile does not count.
        let before = self.pipelines().await?;
        let after = self.pipelines().await?;
        let catalog = self.catalog();
        for part in parts {
            let again = format!("{replay}{}", &part[name.len()..]);
            let sources = super::sql::plan(&again, catalog.deployed_as(&again)?)?;
            let topics = sources.pipeline.sources().iter();
            let topics = topics.filter_map(|source| catalog.topic(source).ok());
            let partitions = topics.flat_map(|t| t.partitions.iter().map(|p| p.id));
            let of =
                |all: &[PipelineStatus], name: &str| all.iter().find(|p| p.name == name).cloned();
            let again = of(&after, &again);
            let left = left(partitions, of(&before, &part).as_ref(), again.as_ref());
            let why = match left {
                Some(0) => continue,
                None => "does not run everywhere yet".into(),
                Some(left) => format!("has {left} records to go"),
            };
            let rests = again.is_some_and(|p| p.state == "paused");
            let rests = if rests { ", and rests" } else { "" };
            let what = format!("'{replay}' {why}{rests}: try again later");
            return Err(Failure::new(ErrorCode::Busy, what));
        }
        Ok(())
    }
}

/// Names that topics have, and those that they take.
type Names = Vec<(String, String)>;

/// The topics of a pipeline, each with that of its replay.
fn pairs<'n>(name: &str, names: &'n Names) -> impl Iterator<Item = (&'n str, &'n str)> {
    let replay = format!("{name}{REPLAY}");
    let replays = names
        .iter()
        .filter(move |(from, _)| from.starts_with(&replay));
    replays.map(|(from, to)| (&to[..], &from[..]))
}

fn list<'n>(topics: impl Iterator<Item = &'n String>) -> String {
    let quoted: Vec<String> = topics.map(|topic| format!("'{topic}'")).collect();
    quoted.join(", ")
}

/// Records that `first` has read and `again` has not; of partitions that only `again` reads, all that there are.
/// `None` where one of these partitions is not read yet.
fn left(
    partitions: impl Iterator<Item = PartitionId>,
    first: Option<&PipelineStatus>,
    again: Option<&PipelineStatus>,
) -> Option<u64> {
    let again = again?;
    let at = |p: &PipelineStatus, id| {
        let mut same = p.positions.iter().filter(|q| q.partition == id);
        same.next().map(|q| q.offset.0)
    };
    let (mut left, mut alone) = (0, false);
    for id in partitions {
        let read = at(again, id)?;
        match first.and_then(|first| at(first, id)) {
            Some(upto) => left += upto.saturating_sub(read),
            None => alone = true,
        }
    }
    let alone = if alone { again.lag } else { 0 };
    Some(left.max(alone).max(again.outbound_bytes.min(1)))
}

fn refused(what: String) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, what)
}
