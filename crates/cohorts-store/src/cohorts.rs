//! Cohorts: their rows, lists, searches, and the references of filters to other cohorts.
//!
//! `pending_version` counts requested calculations and `version` finished ones. A cohort is calculating while
//! `pending_version` is ahead. Only [`crate::queue`] changes the state of a calculation.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use cohorts_engine::{FilterError, Moment, Plan, plan, plan_query};
use diesel::dsl::{IntoBoxed, LeftJoin, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

use crate::definition::Definition;
use crate::keys::Teammate;
use crate::pages::{PageIds, RowSize, in_order, octet_length};
use crate::schema::{cohorts, teammates};
use crate::{CohortId, Conn, ProjectId, Result, like_pattern};

/// A row of `cohorts`.
#[derive(Clone, Debug, Queryable, Selectable)]
pub struct Cohort {
    /// The id; see [`Cohort::id`].
    pub id: i64,
    /// The id of the project; see [`Cohort::project`].
    pub project_id: i64,
    /// The columns that callers decide.
    #[diesel(embed)]
    pub definition: Definition,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The number of finished calculations; `None` before the first one.
    pub version: Option<i64>,
    /// The number of requested calculations; `None` before the first one.
    pub pending_version: Option<i64>,
    /// The version of the members that readers use; 0 before the first change.
    pub member_version: i64,
    /// The number of members; `None` before the first calculation.
    pub count: Option<i64>,
    /// Whether a requested calculation is not finished.
    pub is_calculating: bool,
    /// The time at which the members were correct.
    pub last_calculation: Option<DateTime<Utc>>,
    /// Failed calculations since the last successful one.
    pub errors_calculating: i64,
    /// The code of the last failed calculation. Later successes keep it.
    pub last_error_code: Option<String>,
    /// Why the last failed calculation failed. Later successes keep it.
    pub last_error: Option<String>,
    /// The last attempt at the members. A claim is lost when this changes.
    pub attempt: i64,
    /// Whether a static cohort waits for its first fill from its criteria.
    pub fill_pending_criteria: bool,
    /// Whether a static cohort waits for its first fill from its query.
    pub fill_pending_query: bool,
    /// The time of the next check; `None` if it is due now.
    pub due_at: Option<DateTime<Utc>>,
    /// The sequence number of the log up to which the members are complete.
    pub seen_seq: i64,
    /// Whether the criteria, or what they refer to, have changed since the last calculation.
    pub criteria_changed: bool,
    /// Whether each pass of the project includes the cohort; see [`crate::live`].
    pub is_live: bool,
    /// The number of the definition. Each change of the definition raises it; nothing else does.
    pub definition_number: i64,
}

impl Cohort {
    /// The plans that select the members at a moment: the criteria or the query of a dynamic cohort, or the pending fills
    /// of a static cohort.
    ///
    /// # Errors
    ///
    /// Fails if the criteria or the query cannot be planned, for example because a time zone rule has no such instant.
    pub fn plans(&self, at: &Moment) -> Result<Vec<Plan>, FilterError> {
        if !self.definition.is_static {
            return Ok(vec![self.definition.rule()?.plan(at)?]);
        }
        let mut plans = Vec::new();
        if self.fill_pending_criteria {
            plans.push(plan(self.definition.filter()?, at)?);
        }
        if let Some(query) = &self.definition.query
            && self.fill_pending_query
        {
            plans.push(plan_query(&query.parse(), at)?);
        }
        Ok(plans)
    }

    /// The typed id.
    pub fn id(&self) -> CohortId {
        CohortId(self.id)
    }

    /// The typed id of the project.
    pub fn project(&self) -> ProjectId {
        ProjectId(self.project_id)
    }
}

/// A cohort and the teammate who created it.
pub type CohortWithCreator = (Cohort, Option<Teammate>);

/// Creates a cohort without members.
///
/// # Errors
///
/// Fails if the database fails.
pub fn create(
    conn: &mut Conn,
    project: ProjectId,
    creator: &Teammate,
    definition: &Definition,
) -> Result<Cohort> {
    Ok(diesel::insert_into(cohorts::table)
        .values((
            definition.row(),
            cohorts::project_id.eq(project.0),
            cohorts::created_by.eq(creator.id),
            cohorts::created_at.eq(now),
            cohorts::is_calculating.eq(false),
            cohorts::deleted_at.eq(definition.deleted.then(Utc::now)),
        ))
        .returning(Cohort::as_returning())
        .get_result(conn)?)
}

/// The cohort of the project with this id, also if it is deleted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
) -> Result<Option<CohortWithCreator>> {
    Ok(cohorts::table
        .left_join(teammates::table)
        .filter(cohorts::project_id.eq(project.0).and(cohorts::id.eq(id.0)))
        .select((Cohort::as_select(), Option::<Teammate>::as_select()))
        .first(conn)
        .optional()?)
}

/// The oldest live cohort of the project with this name.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find_by_name(conn: &mut Conn, project: ProjectId, name: &str) -> Result<Option<Cohort>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::name.eq(name))
        .filter(diesel::dsl::not(cohorts::deleted))
        .order(cohorts::id)
        .select(Cohort::as_select())
        .first(conn)
        .optional()?)
}

/// The definitions of the cohorts `ids` of the project, also of deleted ones; other ids are absent.
///
/// # Errors
///
/// Fails if the database fails.
pub fn definitions(
    conn: &mut Conn,
    project: ProjectId,
    ids: &[i64],
) -> Result<HashMap<i64, Definition>> {
    let rows: Vec<(i64, Definition)> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::id.eq_any(ids))
        .select((cohorts::id, Definition::as_select()))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// The ids and definitions of the project's live cohorts that may refer to other cohorts, sorted by id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn referring(conn: &mut Conn, project: ProjectId) -> Result<Vec<(i64, Definition)>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(may_refer_to_cohorts())
        .order(cohorts::id)
        .select((cohorts::id, Definition::as_select()))
        .load(conn)?)
}

/// Reads a cohort of the project and locks its row until the transaction ends.
///
/// # Errors
///
/// Fails if the database fails.
pub fn lock(conn: &mut Conn, project: ProjectId, id: CohortId) -> Result<Option<Cohort>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0).and(cohorts::id.eq(id.0)))
        .select(Cohort::as_select())
        .for_update()
        .first(conn)
        .optional()?)
}

/// A cohort with a locked row.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = cohorts)]
pub struct LockedCohort {
    /// The id of the cohort.
    pub id: i64,
    /// Whether the members are a list, and not calculated from criteria.
    pub is_static: bool,
    /// The version of the members that readers use.
    pub member_version: i64,
    /// The number of members; `None` before the first calculation.
    pub count: Option<i64>,
    /// The last attempt at the members.
    pub attempt: i64,
}

/// Locks the rows of all cohorts of a project, also of deleted ones, until the transaction ends.
///
/// # Errors
///
/// Fails if the database fails.
pub fn lock_all(conn: &mut Conn, project: ProjectId) -> Result<Vec<LockedCohort>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .order(cohorts::id)
        .select(LockedCohort::as_select())
        .for_update()
        .load(conn)?)
}

/// Locks the rows of the static cohorts of a project, also of deleted ones, until the transaction ends.
///
/// # Errors
///
/// Fails if the database fails.
pub fn lock_static(conn: &mut Conn, project: ProjectId) -> Result<Vec<LockedCohort>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::is_static)
        .order(cohorts::id)
        .select(LockedCohort::as_select())
        .for_update()
        .load(conn)?)
}

/// Conditions on a project's live cohorts; all of them must hold.
#[derive(Clone, Debug, Default)]
pub struct CohortFilter {
    /// Only static cohorts, or only dynamic ones.
    pub is_static: Option<bool>,
    /// Only cohorts of the teammate with this id.
    pub created_by: Option<i64>,
    /// A part of the name. Similar names match only if no name has this part; see [`list`].
    pub search: Option<String>,
    /// Ids of cohorts to leave out.
    pub hidden: Vec<i64>,
}

/// The least word similarity, by pg_trgm, of a name that has a word with the same first letter as a word of the search.
/// Without that condition, trigrams match `something` to `qqqqnothing`.
const SIMILAR: f32 = 0.3;
/// The least word similarity of any other name.
const VERY_SIMILAR: f32 = 0.5;

diesel::define_sql_function! {
    /// How similar `word` is to the most similar part of `text`, from 0 to 1 (pg_trgm).
    fn word_similarity(word: Text, text: Nullable<Text>) -> Nullable<Float>;
}
diesel::define_sql_function! {
    /// How similar two texts are, from 0 to 1 (pg_trgm).
    fn similarity(word: Text, text: Nullable<Text>) -> Nullable<Float>;
}

diesel::define_sql_function! {
    /// The function of the operator `~*`.
    fn texticregexeq(text: Nullable<Text>, pattern: Text) -> Nullable<Bool>;
}

type BoxedCohorts<'a> = IntoBoxed<'a, LeftJoin<cohorts::table, teammates::table>, Pg>;

/// How the names of a list match the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameMatch {
    /// They contain the text, case-insensitively.
    Exact,
    /// They are similar to it, by pg_trgm.
    Similar,
}

/// The page of the cohorts that pass `filter`.
///
/// The best match comes first, then the newest cohort. If no cohort has a name that contains the text of the search,
/// and `has_trigrams`, the cohorts with similar names are the result.
///
/// # Errors
///
/// Fails if the database fails.
pub fn list(
    conn: &mut Conn,
    project: ProjectId,
    filter: &CohortFilter,
    has_trigrams: bool,
    limit: i64,
    offset: i64,
) -> Result<(PageIds, NameMatch)> {
    let page_of = |conn: &mut Conn, matching| {
        let rows = || filtered(project, filter, matching);
        let mut page = rows();
        if let Some(term) = filter.search.as_ref().filter(|_| has_trigrams) {
            let rank = word_similarity(term, cohorts::name) + similarity(term, cohorts::name);
            page = page.order(rank.desc());
        }
        page_ids(conn, page, rows(), limit, offset)
    };
    let page = page_of(conn, NameMatch::Exact)?;
    if page.count > 0 || filter.search.is_none() || !has_trigrams {
        return Ok((page, NameMatch::Exact));
    }
    Ok((page_of(conn, NameMatch::Similar)?, NameMatch::Similar))
}

/// The page of sorted rows, then by the time of creation. `rows` are the same rows without an order.
fn page_ids(
    conn: &mut Conn,
    sorted: BoxedCohorts,
    rows: BoxedCohorts,
    limit: i64,
    offset: i64,
) -> Result<PageIds> {
    // One more row shows whether this page is the last one. If it is, the page gives the count without a query.
    let mut ids: Vec<i64> = sorted
        .limit(limit.saturating_add(1))
        .offset(offset)
        .then_order_by((cohorts::created_at.desc(), cohorts::id.desc()))
        .select(cohorts::id)
        .load(conn)?;
    let row_count = ids.len() as i64;
    let is_last = row_count <= limit && (row_count > 0 || offset == 0);
    let count = if is_last {
        offset + row_count
    } else {
        rows.count().get_result(conn)?
    };
    ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(PageIds { ids, count })
}

/// The sizes of the project's cohorts `ids`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn sizes(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<Vec<RowSize>> {
    let columns = (
        octet_length(cohorts::filters.cast::<Nullable<Text>>()),
        octet_length(cohorts::groups.cast::<Text>().nullable()),
        octet_length(cohorts::query.cast::<Nullable<Text>>()),
        octet_length(cohorts::description.nullable()),
        octet_length(cohorts::last_error),
    );
    type Bytes = Option<i32>;
    type Row = (i64, (Bytes, Bytes, Bytes, Bytes, Bytes));
    let rows: Vec<Row> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::id.eq_any(ids))
        .select((cohorts::id, columns))
        .load(conn)?;
    let sizes = rows
        .into_iter()
        .map(|(id, columns)| RowSize::new(id, columns.into()));
    Ok(sizes.collect())
}

/// Those of `ids` that are cohorts of the project, also deleted ones, in any order.
///
/// # Errors
///
/// Fails if the database fails.
pub fn existing(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<Vec<i64>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::id.eq_any(ids))
        .select(cohorts::id)
        .load(conn)?)
}

/// The project's cohorts `ids`, in the order of `ids`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn by_ids(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<Vec<CohortWithCreator>> {
    let rows: Vec<CohortWithCreator> = cohorts::table
        .left_join(teammates::table)
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::id.eq_any(ids))
        .select((Cohort::as_select(), Option::<Teammate>::as_select()))
        .load(conn)?;
    Ok(in_order(ids, rows, |(cohort, _)| cohort.id))
}

fn filtered<'a>(
    project: ProjectId,
    filter: &'a CohortFilter,
    matching: NameMatch,
) -> BoxedCohorts<'a> {
    let mut rows = cohorts::table
        .left_join(teammates::table)
        .into_boxed()
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted));
    if let Some(is_static) = filter.is_static {
        rows = rows.filter(cohorts::is_static.eq(is_static));
    }
    if let Some(creator) = filter.created_by {
        rows = rows.filter(cohorts::created_by.eq(creator));
    }
    if !filter.hidden.is_empty() {
        rows = rows.filter(cohorts::id.ne_all(&filter.hidden));
    }
    let Some(term) = &filter.search else {
        return rows;
    };
    if matching == NameMatch::Exact {
        return rows.filter(cohorts::name.ilike(like_pattern(term)));
    }
    let is_very_similar = word_similarity(term, cohorts::name).ge(VERY_SIMILAR);
    match first_letters(term) {
        Some(pattern) => {
            let is_similar = word_similarity(term, cohorts::name).gt(SIMILAR);
            let has_first_letter = texticregexeq(cohorts::name, pattern);
            rows.filter(is_similar.and(has_first_letter).or(is_very_similar))
        }
        None => rows.filter(is_very_similar),
    }
}

/// A regular expression for texts in which a word has the same first letter as a word of `term`; `None` without words.
fn first_letters(term: &str) -> Option<String> {
    let words = term.split(|c: char| !c.is_alphanumeric());
    let letters: String = words.filter_map(|word| word.chars().next()).collect();
    (!letters.is_empty()).then(|| format!(r"\m[{letters}]"))
}

/// The number of the project's live cohorts.
///
/// # Errors
///
/// Fails if the database fails.
pub fn count(conn: &mut Conn, project: ProjectId) -> Result<i64> {
    let no_conditions = CohortFilter::default();
    Ok(filtered(project, &no_conditions, NameMatch::Exact)
        .count()
        .get_result(conn)?)
}

/// The ids and definitions of the project's live dynamic cohorts.
///
/// # Errors
///
/// Fails if the database fails.
pub fn dynamic_definitions(conn: &mut Conn, project: ProjectId) -> Result<Vec<(i64, Definition)>> {
    let definition = (cohorts::id, Definition::as_select());
    Ok(live_dynamic(project).select(definition).load(conn)?)
}

/// The definitions of the project's dynamic cohorts, also of deleted ones, that may refer to other cohorts.
///
/// # Errors
///
/// Fails if the database fails.
pub fn referring_definitions(
    conn: &mut Conn,
    project: ProjectId,
) -> Result<HashMap<i64, Definition>> {
    let rows: Vec<(i64, Definition)> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::is_static))
        .filter(may_refer_to_cohorts())
        .select((cohorts::id, Definition::as_select()))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

fn live_dynamic<'a>(project: ProjectId) -> cohorts::BoxedQuery<'a, Pg> {
    cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static))
        .into_boxed()
}

/// Whether the text of the filters, or of the query of a dynamic cohort, contains what every reference to a cohort does.
#[diesel::dsl::auto_type]
pub(crate) fn may_refer_to_cohorts() -> _ {
    let filters: diesel::dsl::Cast<cohorts::filters, Nullable<Text>> = cohorts::filters.cast();
    let query: diesel::dsl::Cast<cohorts::query, Nullable<Text>> = cohorts::query.cast();
    let by_query = diesel::dsl::not(cohorts::is_static).and(query.ilike("%cohort%"));
    filters.like("%\"cohort\"%").or(by_query)
}

/// Replaces the definition of a cohort, and raises its number.
///
/// # Errors
///
/// Fails if the database fails.
pub fn update(conn: &mut Conn, id: CohortId, definition: &Definition) -> Result<()> {
    let row = cohorts::table.find(id.0);
    let number = cohorts::definition_number.eq(cohorts::definition_number + 1);
    // In SET, `deleted` is the value before the update.
    let deleted_at = diesel::dsl::case_when(cohorts::deleted, cohorts::deleted_at);
    if definition.deleted {
        let deleted_at = cohorts::deleted_at.eq(deleted_at.otherwise(Some(Utc::now())));
        diesel::update(row)
            .set((definition.row(), number, deleted_at))
            .execute(conn)?;
    } else {
        let deleted_at = cohorts::deleted_at.eq(None::<DateTime<Utc>>);
        diesel::update(row)
            .set((definition.row(), number, deleted_at))
            .execute(conn)?;
    }
    Ok(())
}

/// The ids of the project's live dynamic cohorts.
///
/// # Errors
///
/// Fails if the database fails.
pub fn dynamic(conn: &mut Conn, project: ProjectId) -> Result<Vec<i64>> {
    Ok(live_dynamic(project).select(cohorts::id).load(conn)?)
}
