//! An edit of a cohort as PATCH and PUT request it: made, or only tried by a dry run.

use cohorts_api::types::PatchedCohort;
use cohorts_api::{RequestHead, UploadedFile};
use cohorts_store::{CohortId, Conn};

use super::entity_tag::{IfMatch, TaggedCohort};
use super::{change, dry_run};
use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::Service;
use crate::handlers::admission::holding;
use crate::handlers::uploads::UploadOptions;
use crate::kill_points::KillPoint;
use crate::shares::ShareOwner;

/// The parts of a request to edit a cohort.
pub struct CohortEdit {
    pub id: CohortId,
    pub is_dry_run: bool,
    pub body: PatchedCohort,
    pub files: Vec<UploadedFile>,
    pub options: UploadOptions,
}

impl Service {
    /// Edits a cohort if the parameters are known and the condition of the request holds.
    pub(super) async fn edit_cohort(
        &self,
        caller: Caller,
        head: &RequestHead,
        edit: CohortEdit,
    ) -> Result<TaggedCohort, Error> {
        dry_run::check_parameters(head)?;
        let if_match = IfMatch::of(head.request().headers());
        if edit.is_dry_run {
            self.dry_run(caller, edit, if_match).await
        } else {
            self.change(caller, edit, if_match).await
        }
    }

    async fn dry_run(
        &self,
        caller: Caller,
        edit: CohortEdit,
        if_match: IfMatch,
    ) -> Result<TaggedCohort, Error> {
        if !edit.files.is_empty() {
            let detail = "A dry run cannot contain a file. Leave it out, or leave `dry_run` out.";
            return Err(Error::field("csv", detail));
        }
        let (project, id, body) = (caller.project.id(), edit.id, edit.body);
        let store = self.store.clone();
        let owner = ShareOwner::Project(project);
        let permit = self.shares.previews.acquire(owner).await?;
        let read = move |conn: &mut Conn| dry_run::read(conn, &store, &caller, id, body, &if_match);
        self.read(project, holding(permit, read)).await
    }

    async fn change(
        &self,
        caller: Caller,
        edit: CohortEdit,
        if_match: IfMatch,
    ) -> Result<TaggedCohort, Error> {
        let (project, id, body) = (caller.project.id(), edit.id, edit.body);
        let mut upload = None;
        if !edit.files.is_empty() {
            let (caller, body, if_match) = (caller.clone(), body.clone(), if_match.clone());
            let check = move |conn: &mut Conn| change::check(conn, &caller, id, body, &if_match);
            self.read(project, check).await?;
            let read = self.read_upload(project, edit.files, edit.options);
            upload = read.await?;
        }
        let has_upload = upload.is_some();
        let change =
            move |conn: &mut Conn| change::change(conn, &caller, id, body, upload, &if_match);
        let changed = self.transaction(project, change).await?;
        if has_upload {
            KillPoint::UploadCommitted.reached();
        }
        self.signal.notify();
        Ok(changed)
    }
}
