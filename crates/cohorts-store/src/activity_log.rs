//! What the activity logs of cohorts and of webhooks have in common. Each log is a table of its own, and diesel has no type
//! for "any table with these columns", so a macro defines the functions for both.

/// Defines functions on the table `$entries` with rows of the type `$row`.
macro_rules! activity_log {
    ($entries:ident, $row:ident) => {
        /// The sizes of the entries `ids` of the project.
        ///
        /// # Errors
        ///
        /// Fails if the database fails.
        pub fn sizes(
            conn: &mut crate::Conn,
            project: crate::ProjectId,
            ids: &[i64],
        ) -> crate::Result<Vec<crate::pages::RowSize>> {
            use crate::pages::{RowSize, octet_length};
            use diesel::sql_types::{Nullable, Text};
            let rows: Vec<(i64, Option<i32>)> = $entries::table
                .filter($entries::project_id.eq(project.0))
                .filter($entries::id.eq_any(ids))
                .select((
                    $entries::id,
                    octet_length($entries::changes.cast::<Nullable<Text>>()),
                ))
                .load(conn)?;
            let sizes = rows
                .into_iter()
                .map(|(id, bytes)| RowSize::new(id, [bytes]));
            Ok(sizes.collect())
        }

        /// The entries `ids` of the project, newest first, each with the teammate who made the change; `None` if the service
        /// made it.
        ///
        /// # Errors
        ///
        /// Fails if the database fails.
        pub fn by_ids(
            conn: &mut crate::Conn,
            project: crate::ProjectId,
            ids: &[i64],
        ) -> crate::Result<Vec<($row, Option<crate::keys::Teammate>)>> {
            use crate::schema::teammates;
            Ok($entries::table
                .left_join(teammates::table)
                .filter($entries::project_id.eq(project.0))
                .filter($entries::id.eq_any(ids))
                .order($entries::id.desc())
                .select((
                    $row::as_select(),
                    Option::<crate::keys::Teammate>::as_select(),
                ))
                .load(conn)?)
        }

        /// Deletes the entries before `time` among the `limit` oldest ones, and returns their number.
        ///
        /// # Errors
        ///
        /// Fails if the database fails.
        pub fn delete_before(
            conn: &mut crate::Conn,
            time: chrono::DateTime<chrono::Utc>,
            limit: i64,
        ) -> crate::Result<usize> {
            // Ids rise with time.
            let oldest: Vec<(i64, chrono::DateTime<chrono::Utc>)> = $entries::table
                .order($entries::id)
                .limit(limit)
                .select(($entries::id, $entries::created_at))
                .load(conn)?;
            let old = oldest
                .into_iter()
                .filter(|(_, created_at)| *created_at < time);
            let ids: Vec<i64> = old.map(|(id, _)| id).collect();
            delete(conn, &ids)
        }

        fn delete(conn: &mut crate::Conn, ids: &[i64]) -> crate::Result<usize> {
            let entries = $entries::table.filter($entries::id.eq_any(ids));
            Ok(diesel::delete(entries).execute(conn)?)
        }
    };
}

pub(crate) use activity_log;
