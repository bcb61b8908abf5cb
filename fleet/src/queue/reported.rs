//! The instances of a master's slaves, as the slaves report them, and not more of them than a master
//! can tell of.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use seqlink::catalog::clusterio::session::{InstanceEntry, InstanceStatus, SlaveStatus};

/// Most instances of a slave.
const MOST: usize = 256;
/// Longest name of an instance, in bytes.
const LONGEST_NAME: usize = 256;
/// Most bytes of the list of all instances, which has to fit a frame.
const MOST_LISTED: usize = 900 * 1024;
/// What an instance takes of it without its name.
const LISTED: usize = 160;
/// Most instances that are remembered of slaves that are away.
const MOST_AWAY: usize = 1024;
/// How long they are remembered.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);

/// The instances, by id.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    instances: BTreeMap<i64, Instance>,
    /// The slaves of some of them that are away, and since when.
    away: BTreeMap<i64, Instant>,
}

/// An instance as its slave reports it.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) status: SlaveStatus,
}

#[derive(Clone, Debug)]
struct Instance {
    name: String,
    slave: i64,
    status: SlaveStatus,
    game_port: Option<i64>,
    /// What it takes of the list.
    listed: usize,
}

/// Why a report is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReportError {
    Many(usize),
    LongName(usize),
    /// The instances of the other slaves that are here take this much of the list.
    Full(usize),
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Many(count) => write!(f, "{count} instances, the limit for a slave is {MOST}"),
            Self::LongName(bytes) => {
                write!(f, "an instance's name has {bytes} bytes, the limit is {LONGEST_NAME}")
            }
            Self::Full(bytes) => write!(
                f,
                "the list of instances has {bytes} bytes already, the limit is {MOST_LISTED}"
            ),
        }
    }
}

impl Reported {
    /// `slave`, which is here, has these instances and no others. One that another slave has stays
    /// there while that one is here. Returns which are its own.
    pub(crate) fn report(
        &mut self,
        slave: i64,
        reports: Vec<Report>,
    ) -> Result<Vec<i64>, ReportError> {
        if reports.len() > MOST {
            return Err(ReportError::Many(reports.len()));
        }
        if let Some(long) = reports.iter().find(|report| report.name.len() > LONGEST_NAME) {
            return Err(ReportError::LongName(long.name.len()));
        }
        let own = reports.into_iter().map(|report| (report.id, Instance::new(slave, report)));
        let mut own: BTreeMap<i64, Instance> = own.collect();
        self.away.remove(&slave);
        own.retain(|id, _| {
            self.instances.get(id).is_none_or(|it| it.slave == slave || !self.is_here(it))
        });
        let others = |it: &&Instance| it.slave != slave && self.is_here(it);
        let taken: usize = self.instances.values().filter(others).map(|it| it.listed).sum();
        if taken + own.values().map(|it| it.listed).sum::<usize>() > MOST_LISTED {
            return Err(ReportError::Full(taken));
        }
        self.instances.retain(|_, instance| instance.slave != slave);
        let ids = own.keys().copied().collect();
        self.instances.extend(own);
        while self.instances.values().map(|it| it.listed).sum::<usize>() > MOST_LISTED
            && self.forget_first()
        {}
        Ok(ids)
    }

    /// `slave` is here; what it has it will report.
    pub(crate) fn joined(&mut self, slave: i64) {
        self.away.remove(&slave);
    }

    /// `slave` is gone.
    pub(crate) fn left(&mut self, now: Instant, slave: i64) {
        if self.instances.values().any(|instance| instance.slave == slave) {
            self.away.insert(slave, now);
        }
        while self.instances.values().filter(|it| !self.is_here(it)).count() > MOST_AWAY
            && self.forget_first()
        {}
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.away.values().min().map(|since| *since + FORGET_AFTER)
    }

    /// Forgets whose time is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|deadline| deadline <= now) && self.forget_first() {}
    }

    /// Forgets the slave that is away the longest. Returns whether there was one.
    fn forget_first(&mut self) -> bool {
        let first = self.away.iter().min_by_key(|(_, since)| **since).map(|(slave, _)| *slave);
        let Some(first) = first else { return false };
        self.away.remove(&first);
        self.instances.retain(|_, instance| instance.slave != first);
        true
    }

    /// What `slave` says that one of its instances does.
    pub(crate) fn change(
        &mut self,
        slave: i64,
        instance: i64,
        status: SlaveStatus,
        game_port: Option<i64>,
    ) {
        let known = self.instances.get_mut(&instance).filter(|instance| instance.slave == slave);
        if let Some(instance) = known {
            (instance.status, instance.game_port) = (status, game_port);
        }
    }

    pub(crate) fn slave_of(&self, instance: i64) -> Option<i64> {
        self.instances.get(&instance).map(|instance| instance.slave)
    }

    pub(crate) fn list(&self) -> Vec<InstanceEntry> {
        let entry = |(id, instance): (&i64, &Instance)| {
            let here = self.is_here(instance);
            InstanceEntry {
                name: instance.name.clone(),
                id: *id,
                assigned_slave: Some(instance.slave),
                game_port: Some(instance.game_port.filter(|_| here)),
                status: if here { instance.status.into() } else { InstanceStatus::Unknown },
            }
        };
        self.instances.iter().map(entry).collect()
    }

    fn is_here(&self, instance: &Instance) -> bool {
        !self.away.contains_key(&instance.slave)
    }
}

impl Instance {
    fn new(slave: i64, Report { name, status, .. }: Report) -> Self {
        // As JSON, which makes up to six bytes of one.
        let listed = LISTED + serde_json::to_string(&name).map_or(6 * name.len(), |it| it.len());
        Self { name, slave, status, game_port: None, listed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(ids: impl IntoIterator<Item = i64>, name: &str) -> Vec<Report> {
        let report = |id| Report { id, name: name.to_owned(), status: SlaveStatus::Running };
        ids.into_iter().map(report).collect()
    }

    fn owners(reported: &Reported) -> Vec<(i64, i64)> {
        reported.list().iter().map(|it| (it.id, it.assigned_slave.unwrap())).collect()
    }

    #[test]
    fn a_report_beyond_the_limits_changes_nothing() {
        let mut reported = Reported::default();
        reported.report(1, reports([5], "five")).unwrap();
        let error = reported.report(1, reports(0..257, "")).unwrap_err();
        assert_eq!(error.to_string(), "257 instances, the limit for a slave is 256");
        let error = reported.report(1, reports([6], &"n".repeat(257))).unwrap_err();
        assert_eq!(error.to_string(), "an instance's name has 257 bytes, the limit is 256");
        assert_eq!(owners(&reported), [(5, 1)]);
        assert_eq!(reported.report(1, reports(0..256, &"n".repeat(256))).unwrap().len(), 256);
    }

    #[test]
    fn an_instance_stays_with_the_slave_that_is_here() {
        let (mut reported, now) = (Reported::default(), Instant::now());
        assert_eq!(reported.report(1, reports([5, 6], "")).unwrap(), [5, 6]);
        assert_eq!(reported.report(2, reports([6, 7], "")).unwrap(), [7]);
        reported.left(now, 1);
        assert_eq!(reported.list()[0].status, InstanceStatus::Unknown);
        reported.joined(1);
        assert_eq!(reported.report(2, reports([6, 7], "")).unwrap(), [7], "it is here again");
        reported.left(now, 1);
        assert_eq!(reported.report(2, reports([6, 7], "")).unwrap(), [6, 7]);
        assert_eq!(owners(&reported), [(5, 1), (6, 2), (7, 2)]);
        // What it had and nobody took, it still has.
        assert_eq!(reported.report(1, reports([5, 6], "")).unwrap(), [5]);
        reported.change(1, 6, SlaveStatus::Stopped, None);
        assert_eq!(reported.list()[1].status, InstanceStatus::Running, "it is not his");
    }

    #[test]
    fn those_of_slaves_that_are_away_are_forgotten() {
        let (mut reported, start) = (Reported::default(), Instant::now());
        let each = MOST as i64;
        for slave in 0..6 {
            reported.report(slave, reports(slave * each..(slave + 1) * each, "")).unwrap();
        }
        for (seconds, slave) in [3, 0, 1, 2, 4].into_iter().enumerate() {
            reported.left(start + Duration::from_secs(seconds as u64), slave);
        }
        let slaves = |reported: &Reported| {
            let mut slaves: Vec<i64> = owners(reported).into_iter().map(|it| it.1).collect();
            slaves.dedup();
            slaves
        };
        assert_eq!(
            slaves(&reported),
            [0, 1, 2, 4, 5],
            "too many: the first that left is forgotten"
        );
        let due = start + Duration::from_secs(1) + FORGET_AFTER;
        assert_eq!(reported.poll_timeout(), Some(due));
        reported.handle_timeout(due - Duration::from_millis(1));
        assert_eq!(slaves(&reported), [0, 1, 2, 4, 5]);
        reported.handle_timeout(due + Duration::from_secs(1));
        assert_eq!(slaves(&reported), [2, 4, 5]);
        reported.joined(2);
        reported.handle_timeout(due + FORGET_AFTER);
        assert_eq!((slaves(&reported), reported.poll_timeout()), (vec![2, 5], None));
    }

    #[test]
    fn the_list_always_fits_a_frame() {
        let (mut reported, now) = (Reported::default(), Instant::now());
        // The longest names, and each byte of them is six in JSON.
        let name = "\u{1}".repeat(LONGEST_NAME);
        let json = |reported: &Reported| serde_json::to_string(&reported.list()).unwrap().len();
        let mut slaves = 0;
        let full = loop {
            let ids = (0..MOST as i64).map(|n| i64::MIN + slaves * MOST as i64 + n);
            match reported.report(slaves, reports(ids, &name)) {
                Ok(_) => slaves += 1,
                Err(error) => break error,
            }
        };
        assert!((1..4).contains(&slaves) && matches!(full, ReportError::Full(_)), "{full}");
        assert!(json(&reported) < MOST_LISTED);
        reported.left(now, 0);
        assert_eq!(reported.report(9, reports(0..MOST as i64, &name)).unwrap().len(), MOST);
        assert!(json(&reported) < MOST_LISTED && owners(&reported).iter().all(|it| it.1 != 0));
    }
}
