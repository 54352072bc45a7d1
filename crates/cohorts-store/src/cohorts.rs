//! Cohorts: their rows, and the queries of lists and references.
//!
//! `pending_version` counts requested calculations and `version` finished ones; a cohort is calculating while the first
//! is ahead.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use cohorts_engine::{FilterError, Moment, Plan, plan, plan_query};
use diesel::dsl::{IntoBoxed, LeftJoin, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

use crate::definition::Definition;
use crate::keys::Teammate;
use crate::schema::{cohorts, teammates};
use crate::{CohortId, Conn, JsonText, ProjectId, Result, like_pattern};

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
    pub fill_pending_criteria: bool,
    /// The same of its query.
    pub fill_pending_query: bool,
    /// When it is to be looked at again.
    pub due_at: Option<DateTime<Utc>>,
}

impl Cohort {
    /// What finds its members at a moment, or those that a static cohort still lacks.
    pub fn plans(&self, at: &Moment) -> Result<Vec<Plan>, FilterError> {
        let mut plans = Vec::new();
        if !self.definition.is_static || self.fill_pending_criteria {
            plans.push(plan(self.definition.filter()?, at)?);
        }
        if let Some(query) = &self.definition.query
            && self.fill_pending_query
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
) -> Result<Cohort> {
    Ok(diesel::insert_into(cohorts::table)
        .values((
            definition.row(),
            cohorts::project_id.eq(project.0),
            cohorts::created_by.eq(creator.id),
            cohorts::created_at.eq(now),
            cohorts::is_calculating.eq(false),
        ))
        .returning(Cohort::as_returning())
        .get_result(conn)?)
}

/// A cohort of the project, deleted or not.
pub fn find(conn: &mut Conn, project: ProjectId, id: CohortId) -> Result<Option<WithCreator>> {
    Ok(cohorts::table
        .left_join(teammates::table)
        .filter(cohorts::project_id.eq(project.0).and(cohorts::id.eq(id.0)))
        .select((Cohort::as_select(), Option::<Teammate>::as_select()))
        .first(conn)
        .optional()?)
}

/// The oldest live cohort of the project with this name.
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

/// The definitions of those of these cohorts that are in the project, deleted or not.
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

/// The live cohorts of the project whose filters may name other cohorts: number, name and filters.
pub fn naming_others(
    conn: &mut Conn,
    project: ProjectId,
) -> Result<Vec<(i64, Option<String>, JsonText)>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(names_others())
        .order(cohorts::id)
        .select((
            cohorts::id,
            cohorts::name,
            cohorts::filters.assume_not_null(),
        ))
        .load(conn)?)
}

/// Reads a cohort and keeps others from changing it until the transaction ends.
pub fn lock(conn: &mut Conn, project: ProjectId, id: CohortId) -> Result<Option<Cohort>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0).and(cohorts::id.eq(id.0)))
        .select(Cohort::as_select())
        .for_update()
        .first(conn)
        .optional()?)
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
pub fn lock_all(conn: &mut Conn, project: ProjectId) -> Result<Vec<Locked>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .order(cohorts::id)
        .select(Locked::as_select())
        .for_update()
        .load(conn)?)
}

/// One member less in each of these cohorts.
pub fn count_down(conn: &mut Conn, ids: &[i64]) -> Result<()> {
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
) -> Result<(Vec<WithCreator>, i64)> {
    // One more tells whether this page is the last, which then tells how many there are.
    let mut page = found(project, wanted, similar)
        .limit(limit.saturating_add(1))
        .offset(offset);
    if let Some(term) = &wanted.search {
        page = page.order(cohorts::name.ilike(like_pattern(term)).desc());
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
            let exact = cohorts::name.ilike(like_pattern(term));
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
pub fn count(conn: &mut Conn, project: ProjectId) -> Result<i64> {
    let everything = Wanted::default();
    Ok(found(project, &everything, false)
        .count()
        .get_result(conn)?)
}

/// The definitions of all live dynamic cohorts of the project.
pub fn dynamic_definitions(conn: &mut Conn, project: ProjectId) -> Result<Vec<(i64, Definition)>> {
    let definition = (cohorts::id, Definition::as_select());
    Ok(live_dynamic(project).select(definition).load(conn)?)
}

/// Of these, those whose filters may name other cohorts.
pub fn dynamic_definitions_naming_others(
    conn: &mut Conn,
    project: ProjectId,
) -> Result<Vec<(i64, Definition)>> {
    let definition = (cohorts::id, Definition::as_select());
    let naming = live_dynamic(project).filter(names_others());
    Ok(naming.select(definition).load(conn)?)
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

pub fn update(conn: &mut Conn, id: CohortId, definition: &Definition) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set(definition.row())
        .execute(conn)?;
    Ok(())
}

/// The dynamic cohorts of a project that are live.
pub fn dynamic(conn: &mut Conn, project: ProjectId) -> Result<Vec<i64>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static))
        .select(cohorts::id)
        .load(conn)?)
}
