//! Who changed what. The log itself is not written yet.

use cohorts_api::{
    ActivityApi, CohortsActivityRequest, CohortsActivityResponse, CohortsAllActivityRequest,
    CohortsAllActivityResponse,
};

use super::Service;
use crate::auth::Caller;
use crate::error::Error;

impl ActivityApi for Service {
    async fn cohorts_all_activity(
        &self,
        _caller: Caller,
        _request: CohortsAllActivityRequest,
    ) -> Result<CohortsAllActivityResponse, Error> {
        Err(Error::NotImplemented)
    }

    async fn cohorts_activity(
        &self,
        _caller: Caller,
        _request: CohortsActivityRequest,
    ) -> Result<CohortsActivityResponse, Error> {
        Err(Error::NotImplemented)
    }
}
