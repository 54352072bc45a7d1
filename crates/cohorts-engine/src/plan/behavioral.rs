//! Plans behavioural leaves: checks the fields that each kind needs and computes its windows.

use super::{Behavior, Criterion, EventSource, Target};
use crate::FilterError;
use crate::date;
use crate::filter::{BehavioralLeaf, Name};
use crate::predicate::{Comparison, Predicate};
use crate::window::{Moment, Range, Unit};

/// Periods that one leaf may examine.
const MAX_PERIODS: i64 = 10_000;

/// The time after now that a rolling window still includes, in microseconds; as in PostHog.
const GRACE: i64 = 5_000_000;

/// A comparison with a number of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    comparison: Comparison,
    bound: i64,
}

impl Count {
    /// Whether every number except zero satisfies the comparison.
    pub fn admits_any(&self) -> bool {
        self.comparison == Comparison::GreaterOrEqual && self.bound == 1
    }

    /// Whether `number`, which is never zero, satisfies the comparison.
    #[inline]
    pub fn admits(&self, number: usize) -> bool {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.comparison.holds(number.cmp(&self.bound))
    }
}

pub(super) fn criterion(
    leaf: &BehavioralLeaf,
    path: &str,
    at: &Moment,
) -> Result<Criterion, FilterError> {
    let planner = BehaviorPlanner { leaf, path, at };
    let rule = planner.rule()?;
    let mut target = planner.target(&leaf.key, &leaf.event_type, "event_type")?;
    for (index, filter) in leaf.event_filters.iter().flatten().enumerate() {
        let path = format!("{path}.event_filters[{index}]");
        let operator = filter.operator.as_deref();
        let predicate = Predicate::compile(&path, operator, filter.value.as_ref(), at)?;
        target.filters.push((filter.key.clone(), predicate));
    }
    Ok(Criterion::Behavior { target, rule })
}

struct BehaviorPlanner<'a> {
    leaf: &'a BehavioralLeaf,
    path: &'a str,
    at: &'a Moment,
}

impl BehaviorPlanner<'_> {
    fn fail(&self, sentence: impl std::fmt::Display) -> FilterError {
        FilterError::calculation(self.path, sentence)
    }

    fn rule(&self) -> Result<Behavior, FilterError> {
        match self.leaf.value.as_str() {
            "performed_event" => Ok(Behavior::Performed(self.day_range()?)),
            "performed_event_multiple" | "performed_event_multiple_times" => {
                let count = self.count()?;
                Ok(Behavior::Counted(self.rolling_range()?, count))
            }
            "performed_event_first_time" => Ok(Behavior::FirstTime(self.day_range()?)),
            "performed_event_sequence" => self.sequence(),
            "performed_event_regularly" => self.regularly(),
            "stopped_performing_event" => self.stopped(),
            "restarted_performing_event" => self.restarted(),
            other => Err(self.fail(format!("unknown behavioral value '{other}'"))),
        }
    }

    fn target(&self, key: &Name, event_type: &str, field: &str) -> Result<Target, FilterError> {
        let source = match event_type {
            "events" => EventSource::Event(key.text()),
            "actions" => EventSource::Action(key.id().ok_or_else(|| {
                self.fail(format!("'{}' is not the id of an action", key.text()))
            })?),
            other => {
                let sentence = format!("'{field}' must be events or actions, got '{other}'");
                return Err(self.fail(sentence));
            }
        };
        Ok(Target {
            source,
            filters: Vec::new(),
        })
    }

    fn positive(&self, field: &str, value: Option<i64>) -> Result<i64, FilterError> {
        match value {
            None => Err(self.fail(format!("'{field}' is missing"))),
            Some(value) if value <= 0 => {
                Err(self.fail(format!("'{field}' must be greater than zero, got {value}")))
            }
            Some(value) => Ok(value),
        }
    }

    fn unit(&self, field: &str, interval: Option<&str>) -> Result<Unit, FilterError> {
        let Some(interval) = interval else {
            return Err(self.fail(format!("'{field}' is missing")));
        };
        Unit::from_interval(interval).ok_or_else(|| {
            self.fail(format!(
                "unknown '{field}' '{interval}'; expected one of hour, day, week, month, year"
            ))
        })
    }

    /// `time_value` and `time_interval`.
    fn outer(&self) -> Result<(i64, Unit), FilterError> {
        Ok((
            self.positive("time_value", self.leaf.time_value)?,
            self.unit("time_interval", self.leaf.time_interval.as_deref())?,
        ))
    }

    /// `seq_time_value` and `seq_time_interval`.
    fn inner(&self) -> Result<(i64, Unit), FilterError> {
        Ok((
            self.positive("seq_time_value", self.leaf.seq_time_value)?,
            self.unit("seq_time_interval", self.leaf.seq_time_interval.as_deref())?,
        ))
    }

    /// `None` means that the calendar ends before the bound.
    fn within_calendar<T>(&self, bound: Option<T>) -> Result<T, FilterError> {
        bound.ok_or_else(|| self.fail("the time window reaches beyond the calendar"))
    }

    fn count(&self) -> Result<Count, FilterError> {
        let comparison = match self.leaf.operator.as_deref().unwrap_or("exact") {
            "exact" | "eq" => Comparison::Equal,
            "gt" => Comparison::Greater,
            "gte" => Comparison::GreaterOrEqual,
            "lt" => Comparison::Less,
            "lte" => Comparison::LessOrEqual,
            other => {
                return Err(self.fail(format!(
                    "unknown count operator '{other}'; expected one of exact, eq, gte, lte, gt, lt"
                )));
            }
        };
        let bound = self.positive("operator_value", self.leaf.operator_value)?;
        Ok(Count { comparison, bound })
    }

    /// The window of the kinds that use whole local days.
    fn day_range(&self) -> Result<Range, FilterError> {
        let Some(from) = &self.leaf.explicit_datetime else {
            self.require_window()?;
            let (amount, unit) = self.outer()?;
            return self.within_calendar(self.at.day_window(amount, unit));
        };
        let from = match date::relative(from) {
            _ if from == "all" => None,
            Some(back) => {
                Some(self.within_calendar(self.at.back_to_start(back.amount, back.unit))?)
            }
            None => Some(self.absolute("explicit_datetime", from)?),
        };
        let to = match &self.leaf.explicit_datetime_to {
            None => self.at.today_end(),
            Some(to) => match date::relative(to) {
                Some(back) => self.at.back_to_day_end(back.amount, back.unit),
                None => self
                    .at
                    .day_end_of(self.absolute("explicit_datetime_to", to)?),
            },
        };
        let to = self.within_calendar(to)?;
        Ok(Range { from, to })
    }

    /// The window of counts: exact instants, both ends exclusive.
    fn rolling_range(&self) -> Result<Range, FilterError> {
        let Some(from) = &self.leaf.explicit_datetime else {
            self.require_window()?;
            let (amount, unit) = self.outer()?;
            let from = self.within_calendar(self.at.back(amount, unit))?;
            return Ok(exclusive_range(
                Some(from),
                self.at.now.saturating_add(GRACE),
            ));
        };
        let from = match from.as_str() {
            "all" => None,
            from => Some(self.instant("explicit_datetime", from)?),
        };
        let to = match &self.leaf.explicit_datetime_to {
            None => self.at.now.saturating_add(GRACE),
            Some(to) => self.instant("explicit_datetime_to", to)?,
        };
        Ok(exclusive_range(from, to))
    }

    /// Fails if `time_value` or its unit is missing, and names both ways to give a window.
    fn require_window(&self) -> Result<(), FilterError> {
        match (self.leaf.time_value, &self.leaf.time_interval) {
            (None, _) | (_, None) => Err(self.fail(
                "no time window: expected time_value with time_interval, or explicit_datetime",
            )),
            _ => Ok(()),
        }
    }

    fn instant(&self, field: &str, text: &str) -> Result<i64, FilterError> {
        match date::relative(text) {
            Some(back) => self.within_calendar(self.at.back(back.amount, back.unit)),
            None => self.absolute(field, text),
        }
    }

    fn absolute(&self, field: &str, text: &str) -> Result<i64, FilterError> {
        let instant = date::absolute(text, &self.at.time_zone);
        instant.ok_or_else(|| self.fail(format!("'{field}' is no date: '{text}'")))
    }

    fn sequence(&self) -> Result<Behavior, FilterError> {
        self.outer()?;
        let range = self.day_range()?;
        let (amount, unit) = self.inner()?;
        let missing = |field: &str| self.fail(format!("'{field}' is missing"));
        let event = self.leaf.seq_event.as_ref();
        let event = event.ok_or_else(|| missing("seq_event"))?;
        let kind = self.leaf.seq_event_type.as_deref();
        let kind = kind.ok_or_else(|| missing("seq_event_type"))?;
        let seconds = amount.saturating_mul(unit.seconds());
        Ok(Behavior::Sequence {
            range,
            second: self.target(event, kind, "seq_event_type")?,
            within: seconds.saturating_mul(1_000_000),
        })
    }

    fn regularly(&self) -> Result<Behavior, FilterError> {
        let (amount, unit) = self.outer()?;
        let count = self.count()?;
        let min = self.positive("min_periods", self.leaf.min_periods)?;
        let total = self.positive("total_periods", self.leaf.total_periods)?;
        if min > total {
            let sentence =
                format!("'min_periods' ({min}) is greater than 'total_periods' ({total})");
            return Err(self.fail(sentence));
        }
        if unit == Unit::Hour {
            return Err(self.fail("periods are whole days; 'time_interval' cannot be hour"));
        }
        if total > MAX_PERIODS {
            let sentence = format!("'total_periods' may be {MAX_PERIODS} at most, got {total}");
            return Err(self.fail(sentence));
        }
        Ok(Behavior::Regularly {
            starts: self.within_calendar(self.at.periods(total, amount, unit))?,
            count,
            min_periods: usize::try_from(min).unwrap_or(usize::MAX),
        })
    }

    /// The outer and the inner window of stopped and restarted. The inner one must not be longer.
    fn nested(&self) -> Result<[(i64, Unit); 2], FilterError> {
        let outer = self.outer()?;
        let inner = self.inner()?;
        let length = |(amount, unit): (i64, Unit)| amount.saturating_mul(unit.seconds());
        if length(inner) > length(outer) {
            let sentence = "the window of seq_time_value is longer than the window of time_value";
            return Err(self.fail(sentence));
        }
        Ok([outer, inner])
    }

    fn stopped(&self) -> Result<Behavior, FilterError> {
        let [outer, inner] = self.nested()?;
        Ok(Behavior::Stopped {
            outer: self.within_calendar(self.at.day_window(outer.0, outer.1))?,
            inner: self.within_calendar(self.at.day_window(inner.0, inner.1))?,
        })
    }

    fn restarted(&self) -> Result<Behavior, FilterError> {
        let [outer, inner] = self.nested()?;
        let from = self.within_calendar(self.at.back_to_day_start(outer.0, outer.1))?;
        let to = self.within_calendar(self.at.back_to_day_end(inner.0, inner.1))?;
        Ok(Behavior::Restarted {
            recent: self.within_calendar(self.at.day_window(inner.0, inner.1))?,
            pause: Range {
                from: Some(from),
                to,
            },
        })
    }
}

/// The instants strictly between `from` and `to`, as an inclusive range.
fn exclusive_range(from: Option<i64>, to: i64) -> Range {
    Range {
        from: from.map(|from| from.saturating_add(1)),
        to: to.saturating_sub(1),
    }
}
