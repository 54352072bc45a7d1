//! Cohorts: what they are, and what is asked of their calculation.
//!
//! `pending_version` counts what was asked for and `version` what was answered; a cohort is calculating while
//! the first is ahead.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use cohorts_engine::filter::has_criteria;
use cohorts_engine::legacy::filters_from_groups;
use cohorts_engine::{Filter, FilterError, Moment, Plan, plan, plan_query};
use diesel::dsl::{IntoBoxed, LeftJoin, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::keys::Teammate;
use super::schema::{cohorts, teammates};
use super::{CohortId, Conn, JsonText, ProjectId, holding};

/// What a caller decides about a cohort.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = cohorts, treat_none_as_null = true)]
pub struct Definition {
    pub name: Option<String>,
    pub description: String,
    pub groups: JsonText,
    pub filters: Option<JsonText>,
    pub query: Option<JsonText>,
    pub deleted: bool,
    pub is_static: bool,
    pub cohort_type: Option<String>,
}

/// A live dynamic cohort without a name and without criteria.
impl Default for Definition {
    fn default() -> Self {
        Self {
            name: None,
            description: String::new(),
            groups: JsonText("[]".to_owned()),
            filters: None,
            query: None,
            deleted: false,
            is_static: false,
            cohort_type: None,
        }
    }
}

impl Definition {
    /// The criteria as callers see them: the filters, else the tree that the legacy groups stand for,
    /// else a tree without criteria.
    pub fn criteria(&self) -> Result<Cow<'_, JsonText>, FilterError> {
        match &self.filters {
            Some(filters) if !matches!(filters.0.as_str(), "{}" | "null") => {
                Ok(Cow::Borrowed(filters))
            }
            _ if self.groups.0 == "[]" => {
                Ok(Cow::Owned(JsonText(r#"{"properties":{}}"#.to_owned())))
            }
            _ => filters_from_groups(&self.groups.parse())
                .map(|tree| Cow::Owned(JsonText::of(&tree))),
        }
    }

    /// Whether there are criteria in its filters.
    pub fn has_criteria(&self) -> bool {
        let filters = self.filters.as_ref().map(JsonText::parse);
        filters.is_some_and(|filters| has_criteria(&filters))
    }

    /// Whether criteria or a query choose its members.
    pub fn chooses(&self) -> bool {
        self.has_criteria() || self.query.is_some()
    }

    /// The criteria, read.
    pub fn filter(&self) -> Result<Filter, FilterError> {
        Filter::parse_stored(&self.criteria()?.parse())
    }
}

/// A row of `cohorts`.
#[derive(Clone, Debug, Queryable, Selectable)]
pub struct Cohort {
    pub id: i64,
    pub project_id: i64,
    #[diesel(embed)]
    pub definition: Definition,
    pub created_at: DateTime<Utc>,
    pub version: Option<i64>,
    pub pending_version: Option<i64>,
    pub member_version: i64,
    pub count: Option<i64>,
    pub is_calculating: bool,
    pub last_calculation: Option<DateTime<Utc>>,
    pub errors_calculating: i64,
    /// Why the last failed calculation failed, also where later ones ended well.
    pub last_error_code: Option<String>,
    pub last_error: Option<String>,
    pub attempt: i64,
    /// Whether a static cohort still lacks whom its criteria ask for.
    pub owes_criteria: bool,
    /// The same of its query.
    pub owes_query: bool,
    /// When it is to be looked at again.
    pub due_at: Option<DateTime<Utc>>,
}

impl Cohort {
    /// What finds its members at a moment, or those that a static cohort still lacks.
    pub fn plans(&self, at: &Moment) -> Result<Vec<Plan>, FilterError> {
        let mut plans = Vec::new();
        if !self.definition.is_static || self.owes_criteria {
            plans.push(plan(&self.definition.filter()?, at)?);
        }
        if let Some(query) = &self.definition.query
            && self.owes_query
        {
            plans.push(plan_query(&query.parse(), at)?);
        }
        Ok(plans)
    }

    pub fn id(&self) -> CohortId {
        CohortId(self.id)
    }

    pub fn project(&self) -> ProjectId {
        ProjectId(self.project_id)
    }
}

/// A cohort and who made it.
pub type WithCreator = (Cohort, Option<Teammate>);

/// Makes a cohort with nobody in it.
pub fn create(
    conn: &mut Conn,
    project: ProjectId,
    creator: &Teammate,
    definition: &Definition,
) -> QueryResult<Cohort> {
    diesel::insert_into(cohorts::table)
        .values((
            definition,
            cohorts::project_id.eq(project.0),
            cohorts::created_by.eq(creator.id),
            cohorts::created_at.eq(now),
            cohorts::is_calculating.eq(false),
        ))
        .returning(Cohort::as_returning())
        .get_result(conn)
}

/// A cohort of the project, deleted or not.
pub fn find(conn: &mut Conn, project: ProjectId, id: CohortId) -> QueryResult<Option<WithCreator>> {
    cohorts::table
        .left_join(teammates::table)
        .filter(cohorts::project_id.eq(project.0).and(cohorts::id.eq(id.0)))
        .select((Cohort::as_select(), Option::<Teammate>::as_select()))
        .first(conn)
        .optional()
}

/// The oldest live cohort of the project with this name.
pub fn find_by_name(
    conn: &mut Conn,
    project: ProjectId,
    name: &str,
) -> QueryResult<Option<Cohort>> {
    cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::name.eq(name))
        .filter(diesel::dsl::not(cohorts::deleted))
        .order(cohorts::id)
        .select(Cohort::as_select())
        .first(conn)
        .optional()
}

/// The definitions of those of these cohorts that are in the project, deleted or not.
pub fn definitions(
    conn: &mut Conn,
    project: ProjectId,
    ids: &[i64],
) -> QueryResult<HashMap<i64, Definition>> {
    let rows: Vec<(i64, Definition)> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::id.eq_any(ids))
        .select((cohorts::id, Definition::as_select()))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// The live cohorts of the project whose filters may name other cohorts: number, name and filters.
pub fn naming_others(
    conn: &mut Conn,
    project: ProjectId,
) -> QueryResult<Vec<(i64, Option<String>, JsonText)>> {
    cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(names_others())
        .order(cohorts::id)
        .select((
            cohorts::id,
            cohorts::name,
            cohorts::filters.assume_not_null(),
        ))
        .load(conn)
}

/// Reads a cohort and keeps others from changing it until the transaction ends.
pub fn lock(conn: &mut Conn, project: ProjectId, id: CohortId) -> QueryResult<Option<Cohort>> {
    cohorts::table
        .filter(cohorts::project_id.eq(project.0).and(cohorts::id.eq(id.0)))
        .select(Cohort::as_select())
        .for_update()
        .first(conn)
        .optional()
}

/// A cohort that is locked.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = cohorts)]
pub struct Locked {
    pub id: i64,
    pub is_static: bool,
    /// The version whose members readers use.
    pub member_version: i64,
    pub is_calculating: bool,
}

/// Locks all cohorts of a project, deleted ones too.
pub fn lock_all(conn: &mut Conn, project: ProjectId) -> QueryResult<Vec<Locked>> {
    cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .order(cohorts::id)
        .select(Locked::as_select())
        .for_update()
        .load(conn)
}

/// One member less in each of these cohorts.
pub fn count_down(conn: &mut Conn, ids: &[i64]) -> QueryResult<()> {
    diesel::update(cohorts::table.filter(cohorts::id.eq_any(ids)))
        .set(cohorts::count.eq(cohorts::count - 1))
        .execute(conn)?;
    Ok(())
}

/// Which of a project's live cohorts are wanted; all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub is_static: Option<bool>,
    pub created_by: Option<i64>,
    /// A part of the name, or something like it if the database can tell.
    pub search: Option<String>,
    pub hidden: Vec<i64>,
}

/// How much like each other a word and a name must be, by pg_trgm: if a word of the one begins as a word of the other
/// does, and in any case. Trigrams alone would find `something` for `qqqqnothing`.
const SIMILAR: f32 = 0.3;
const VERY_SIMILAR: f32 = 0.5;

diesel::define_sql_function! {
    fn word_similarity(word: Text, text: Nullable<Text>) -> Nullable<Float>;
}
diesel::define_sql_function! {
    fn similarity(word: Text, text: Nullable<Text>) -> Nullable<Float>;
}

diesel::define_sql_function! {
    /// What the operator `~*` stands for.
    fn texticregexeq(text: Nullable<Text>, pattern: Text) -> Nullable<Bool>;
}

type Rows<'a> = IntoBoxed<'a, LeftJoin<cohorts::table, teammates::table>, Pg>;

/// One page of the cohorts that are wanted, newest first, or best match first; and how many there are.
pub fn list(
    conn: &mut Conn,
    project: ProjectId,
    wanted: &Wanted,
    similar: bool,
    limit: i64,
    offset: i64,
) -> QueryResult<(Vec<WithCreator>, i64)> {
    // One more tells whether this page is the last, which then tells how many there are.
    let mut page = found(project, wanted, similar)
        .limit(limit.saturating_add(1))
        .offset(offset);
    if let Some(term) = &wanted.search {
        page = page.order(cohorts::name.ilike(holding(term)).desc());
        if similar {
            let likeness = word_similarity(term, cohorts::name) + similarity(term, cohorts::name);
            page = page.then_order_by(likeness.desc());
        }
    }
    let mut rows: Vec<WithCreator> = page
        .then_order_by((cohorts::created_at.desc(), cohorts::id.desc()))
        .select((Cohort::as_select(), Option::<Teammate>::as_select()))
        .load(conn)?;
    let shown = rows.len() as i64;
    let is_last = shown <= limit && (shown > 0 || offset == 0);
    let count = match is_last {
        true => offset + shown,
        false => found(project, wanted, similar).count().get_result(conn)?,
    };
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok((rows, count))
}

fn found<'a>(project: ProjectId, wanted: &'a Wanted, similar: bool) -> Rows<'a> {
    let mut rows = cohorts::table
        .left_join(teammates::table)
        .into_boxed()
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted));
    if let Some(is_static) = wanted.is_static {
        rows = rows.filter(cohorts::is_static.eq(is_static));
    }
    if let Some(creator) = wanted.created_by {
        rows = rows.filter(cohorts::created_by.eq(creator));
    }
    if !wanted.hidden.is_empty() {
        rows = rows.filter(cohorts::id.ne_all(&wanted.hidden));
    }
    match &wanted.search {
        None => rows,
        Some(term) => {
            let exact = cohorts::name.ilike(holding(term));
            match word_beginnings(term).filter(|_| similar) {
                Some(beginnings) => {
                    let alike = word_similarity(term, cohorts::name).gt(SIMILAR);
                    let begun = texticregexeq(cohorts::name, beginnings);
                    let very = word_similarity(term, cohorts::name).ge(VERY_SIMILAR);
                    rows.filter(exact.or(alike.and(begun)).or(very))
                }
                None => rows.filter(exact),
            }
        }
    }
}

/// A pattern for texts of which a word begins as one of the term's does.
fn word_beginnings(term: &str) -> Option<String> {
    let words = term.split(|c: char| !c.is_alphanumeric());
    let letters: String = words.filter_map(|word| word.chars().next()).collect();
    (!letters.is_empty()).then(|| format!(r"\m[{letters}]"))
}

/// How many cohorts of the project are not deleted.
pub fn count(conn: &mut Conn, project: ProjectId) -> QueryResult<i64> {
    let everything = Wanted::default();
    found(project, &everything, false).count().get_result(conn)
}

/// The definitions of all live dynamic cohorts of the project.
pub fn dynamic_definitions(
    conn: &mut Conn,
    project: ProjectId,
) -> QueryResult<Vec<(i64, Definition)>> {
    let definition = (cohorts::id, Definition::as_select());
    live_dynamic(project).select(definition).load(conn)
}

/// Of these, those whose filters may name other cohorts.
pub fn dynamic_definitions_naming_others(
    conn: &mut Conn,
    project: ProjectId,
) -> QueryResult<Vec<(i64, Definition)>> {
    let definition = (cohorts::id, Definition::as_select());
    let naming = live_dynamic(project).filter(names_others());
    naming.select(definition).load(conn)
}

fn live_dynamic<'a>(project: ProjectId) -> cohorts::BoxedQuery<'a, Pg> {
    cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static))
        .into_boxed()
}

/// Whether the filters may name other cohorts.
#[diesel::dsl::auto_type]
fn names_others() -> _ {
    let text: diesel::dsl::Cast<cohorts::filters, Nullable<Text>> = cohorts::filters.cast();
    text.like("%\"cohort\"%")
}

pub fn update(conn: &mut Conn, id: CohortId, definition: &Definition) -> QueryResult<()> {
    diesel::update(cohorts::table.find(id.0))
        .set(definition)
        .execute(conn)?;
    Ok(())
}

/// The dynamic cohorts of a project that are live.
pub fn dynamic(conn: &mut Conn, project: ProjectId) -> QueryResult<Vec<i64>> {
    cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static))
        .select(cohorts::id)
        .load(conn)
}

/// Asks for calculations; the worker finds them after the commit.
pub fn request_calculations(conn: &mut Conn, ids: &[i64]) -> QueryResult<()> {
    diesel::update(cohorts::table.filter(cohorts::id.eq_any(ids)))
        .set((
            cohorts::is_calculating.eq(true),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
            cohorts::pending_version.eq(coalesce(cohorts::pending_version, 0) + 1),
        ))
        .execute(conn)?;
    Ok(())
}

/// Asks for the calculation of one cohort.
pub fn request_calculation(conn: &mut Conn, id: CohortId) -> QueryResult<()> {
    request_calculations(conn, &[id.0])
}

/// Takes back what was asked for. A calculation under way ends without another after it.
pub fn cancel_calculation(conn: &mut Conn, id: CohortId) -> QueryResult<()> {
    diesel::update(cohorts::table.find(id.0))
        .set(cohorts::is_calculating.eq(false))
        .execute(conn)?;
    Ok(())
}

/// Writes down that a static cohort lacks whom its criteria ask for, and asks for them unless it is deleted. It counts
/// no versions.
pub fn owe_criteria(conn: &mut Conn, id: CohortId, deleted: bool) -> QueryResult<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::owes_criteria.eq(true),
            cohorts::is_calculating.eq(!deleted),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
        ))
        .execute(conn)?;
    Ok(())
}

/// Writes down that a static cohort lacks whom its query asks for, and asks for them, also where a calculation is under
/// way, unless it is deleted.
pub fn owe_query(conn: &mut Conn, id: CohortId, deleted: bool) -> QueryResult<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::owes_query.eq(true),
            cohorts::pending_version.eq(coalesce(cohorts::pending_version, 0) + 1),
            cohorts::is_calculating.eq(!deleted),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
        ))
        .execute(conn)?;
    Ok(())
}

/// A cohort that is dynamic owes nothing.
pub fn owe_nothing(conn: &mut Conn, id: CohortId) -> QueryResult<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::owes_criteria.eq(false),
            cohorts::owes_query.eq(false),
        ))
        .execute(conn)?;
    Ok(())
}

/// A static cohort without a query may still owe whom its criteria ask for.
pub fn owe_no_query(conn: &mut Conn, id: CohortId) -> QueryResult<()> {
    diesel::update(cohorts::table.find(id.0))
        .set(cohorts::owes_query.eq(false))
        .execute(conn)?;
    Ok(())
}

/// Asks for what a static cohort owes.
pub fn request_owed(conn: &mut Conn, id: CohortId) -> QueryResult<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::is_calculating.eq(cohorts::owes_criteria.or(cohorts::owes_query)),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
        ))
        .execute(conn)?;
    Ok(())
}

/// Since when a cohort waits that is asked for now: since it was asked for first.
#[diesel::dsl::auto_type]
pub fn since_now(time: Option<DateTime<Utc>>) -> _ {
    diesel::dsl::case_when(cohorts::is_calculating, cohorts::waiting_since).otherwise(time)
}

diesel::define_sql_function! {
    fn coalesce(value: Nullable<BigInt>, otherwise: Nullable<BigInt>) -> Nullable<BigInt>;
}
