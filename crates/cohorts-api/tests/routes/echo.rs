//! A service that returns the request in its responses.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, ResponseError};
use cohorts_api::*;

/// Responds with the operation and its request, as debug text. It accepts a single key.
#[derive(Default)]
pub struct Echo {
    pub memory: BodyMemory,
    /// The limit of fields, if it is more than 200 bytes.
    pub fields: usize,
    /// The permits of files that exist.
    pub files: Arc<AtomicUsize>,
}

/// The permit of a file.
struct FilePermit(Arc<AtomicUsize>);

impl Drop for FilePermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A rejection, an invalid key, or the text of a call.
#[derive(Debug)]
pub enum EchoError {
    Key,
    Request(Rejection),
    /// A substitute for a successful response, so that no response type must be filled.
    Called(StatusCode, String),
}

impl EchoError {
    /// The call of an operation. Its status is the first documented one, which is not an error in most cases.
    fn called(operation: &str, call: String) -> Self {
        let mut operations = OPERATIONS.iter();
        let operation = operations.find(|known| known.id == operation);
        let status = operation.map_or(200, |operation| operation.statuses[0]);
        Self::Called(StatusCode::from_u16(status).expect("a status"), call)
    }
}

impl fmt::Display for EchoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Called(_, call) => f.write_str(call),
            other => write!(f, "{other:?}"),
        }
    }
}

impl ResponseError for EchoError {
    fn status_code(&self) -> StatusCode {
        use Rejection::*;
        match self {
            Self::Called(status, _) => *status,
            Self::Key => StatusCode::UNAUTHORIZED,
            Self::Request(rejection) => match rejection {
                UnknownPath | Path => StatusCode::NOT_FOUND,
                Query { .. } | Malformed { .. } | Field { .. } | TooComplex { .. } => {
                    StatusCode::BAD_REQUEST
                }
                NoKey { .. } => StatusCode::UNAUTHORIZED,
                NotStored { .. } => StatusCode::INSUFFICIENT_STORAGE,
                Overloaded | LargeBodies | Timeout => StatusCode::SERVICE_UNAVAILABLE,
                TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Undocumented { .. } => StatusCode::INTERNAL_SERVER_ERROR,
                NotAcceptable => StatusCode::NOT_ACCEPTABLE,
                MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            },
        }
    }
}

impl Api for Echo {
    type Caller = CredentialSource;
    type Error = EchoError;

    fn reject(&self, rejection: Rejection) -> EchoError {
        EchoError::Request(rejection)
    }

    async fn authorize(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
        credentials: Option<Credentials>,
    ) -> Result<CredentialSource, EchoError> {
        let credentials = credentials.ok_or(EchoError::Key)?;
        if request.match_info().get("project_id") == Some("99") {
            let call = format!("{} {:?}", operation.id, operation.scopes);
            return Err(EchoError::called(operation.id, call));
        }
        if request.match_info().get("project_id") == Some("98") {
            return Err(EchoError::Called(StatusCode::IM_A_TEAPOT, String::new()));
        }
        (credentials.key == "phx_good")
            .then_some(credentials.source)
            .ok_or(EchoError::Key)
    }

    async fn admit(
        &self,
        request: &HttpRequest,
        _operation: &'static Operation,
        _caller: Option<&CredentialSource>,
    ) -> Result<BodyMemory, EchoError> {
        match request.query_string().contains("token=bad") {
            true => Err(EchoError::Key),
            false => Ok(self.memory.clone()),
        }
    }

    async fn admit_upload(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
        _caller: &CredentialSource,
        fields: &[(String, String)],
        length: Option<u64>,
    ) -> Result<UploadPermit, EchoError> {
        if request.match_info().get("id") == Some("404") {
            let call = format!("no {} {fields:?} {length:?}", operation.id);
            return Err(EchoError::called(operation.id, call));
        }
        self.files.fetch_add(1, Ordering::Relaxed);
        Ok(UploadPermit::new(100, FilePermit(Arc::clone(&self.files))))
    }
}

macro_rules! echo {
    ($($operation:ident($request:ident) -> $response:ident,)*) => {
        $(async fn $operation(&self, caller: CredentialSource, request: $request) -> Result<$response, EchoError> {
            Err(EchoError::called(stringify!($operation), format!("{} by {caller:?}: {request:?}", stringify!($operation))))
        })*
    };
}

impl CohortsApi for Echo {
    echo! {
        cohorts_list(CohortsListRequest) -> CohortsListResponse,
        cohorts_create(CohortsCreateRequest) -> CohortsCreateResponse,
        cohorts_preview(CohortsPreviewRequest) -> CohortsPreviewResponse,
        cohorts_retrieve(CohortsRetrieveRequest) -> CohortsRetrieveResponse,
        cohorts_partial_update(CohortsPartialUpdateRequest) -> CohortsPartialUpdateResponse,
        cohorts_update(CohortsUpdateRequest) -> CohortsUpdateResponse,
        cohorts_calculation_history_retrieve(CohortsCalculationHistoryRetrieveRequest) -> CohortsCalculationHistoryRetrieveResponse,
        cohorts_used_in_retrieve(CohortsUsedInRetrieveRequest) -> CohortsUsedInRetrieveResponse,
        cohorts_duplicate_as_static_cohort_retrieve(CohortsDuplicateAsStaticCohortRetrieveRequest) -> CohortsDuplicateAsStaticCohortRetrieveResponse,
        cohorts_persons_retrieve(CohortsPersonsRetrieveRequest) -> CohortsPersonsRetrieveResponse,
        cohorts_persons_csv(CohortsPersonsCsvRequest) -> CohortsPersonsCsvResponse,
        cohorts_persons_ndjson(CohortsPersonsNdjsonRequest) -> CohortsPersonsNdjsonResponse,
        cohorts_sizes(CohortsSizesRequest) -> CohortsSizesResponse,
        cohorts_explain_create(CohortsExplainCreateRequest) -> CohortsExplainCreateResponse,
        cohorts_explain_retrieve(CohortsExplainRetrieveRequest) -> CohortsExplainRetrieveResponse,
        cohorts_memberships(CohortsMembershipsRequest) -> CohortsMembershipsResponse,
        cohorts_overlap(CohortsOverlapRequest) -> CohortsOverlapResponse,
        cohorts_compare(CohortsCompareRequest) -> CohortsCompareResponse,
    }

    async fn cohorts_destroy(
        &self,
        _: CredentialSource,
        _: CohortsDestroyRequest,
    ) -> Result<CohortsDestroyResponse, EchoError> {
        Ok(CohortsDestroyResponse::Status405)
    }
}

impl ChangesApi for Echo {
    echo! {
        cohorts_all_changes(CohortsAllChangesRequest) -> CohortsAllChangesResponse,
        cohorts_all_changes_sse(CohortsAllChangesSseRequest) -> CohortsAllChangesSseResponse,
        cohorts_changes(CohortsChangesRequest) -> CohortsChangesResponse,
        cohorts_changes_sse(CohortsChangesSseRequest) -> CohortsChangesSseResponse,
    }
}

impl MembersApi for Echo {
    echo! {
        cohorts_add_persons_to_static_cohort_partial_update(CohortsAddPersonsToStaticCohortPartialUpdateRequest) -> CohortsAddPersonsToStaticCohortPartialUpdateResponse,
        cohorts_remove_person_from_static_cohort_partial_update(CohortsRemovePersonFromStaticCohortPartialUpdateRequest) -> CohortsRemovePersonFromStaticCohortPartialUpdateResponse,
        cohorts_uploads(CohortsUploadsRequest) -> CohortsUploadsResponse,
        cohorts_upload(CohortsUploadRequest) -> CohortsUploadResponse,
    }
}

impl PersonsApi for Echo {
    echo! {
        persons_list(PersonsListRequest) -> PersonsListResponse,
        persons_csv(PersonsCsvRequest) -> PersonsCsvResponse,
        persons_ndjson(PersonsNdjsonRequest) -> PersonsNdjsonResponse,
        persons_cohorts_retrieve(PersonsCohortsRetrieveRequest) -> PersonsCohortsRetrieveResponse,
        persons_retrieve(PersonsRetrieveRequest) -> PersonsRetrieveResponse,
        persons_destroy(PersonsDestroyRequest) -> PersonsDestroyResponse,
        persons_values_retrieve(PersonsValuesRetrieveRequest) -> PersonsValuesRetrieveResponse,
        events_list(EventsListRequest) -> EventsListResponse,
        persons_bulk_delete_create(PersonsBulkDeleteCreateRequest) -> PersonsBulkDeleteCreateResponse,
        persons_update_property_create(PersonsUpdatePropertyCreateRequest) -> PersonsUpdatePropertyCreateResponse,
        persons_delete_property_create(PersonsDeletePropertyCreateRequest) -> PersonsDeletePropertyCreateResponse,
    }
}

impl ProjectsApi for Echo {
    echo! {
        projects_list(ProjectsListRequest) -> ProjectsListResponse,
        projects_retrieve(ProjectsRetrieveRequest) -> ProjectsRetrieveResponse,
        users_retrieve(UsersRetrieveRequest) -> UsersRetrieveResponse,
    }
}

impl ActionsApi for Echo {
    echo! {
        actions_list(ActionsListRequest) -> ActionsListResponse,
        actions_create(ActionsCreateRequest) -> ActionsCreateResponse,
        actions_retrieve(ActionsRetrieveRequest) -> ActionsRetrieveResponse,
        actions_partial_update(ActionsPartialUpdateRequest) -> ActionsPartialUpdateResponse,
    }
}

impl ActivityApi for Echo {
    echo! {
        cohorts_all_activity_retrieve(CohortsAllActivityRetrieveRequest) -> CohortsAllActivityRetrieveResponse,
        cohorts_activity_retrieve(CohortsActivityRetrieveRequest) -> CohortsActivityRetrieveResponse,
    }
}

/// Operations without a key.
macro_rules! echo_without_key {
    ($($operation:ident($request:ident) -> $response:ident,)*) => {
        $(async fn $operation(&self, request: $request) -> Result<$response, EchoError> {
            Err(EchoError::called(stringify!($operation), format!("{}: {request:?}", stringify!($operation))))
        })*
    };
}

impl CaptureApi for Echo {
    echo_without_key! {
        capture_event(CaptureEventRequest) -> CaptureEventResponse,
        capture_browser_event(CaptureBrowserEventRequest) -> CaptureBrowserEventResponse,
        capture_event_v0(CaptureEventV0Request) -> CaptureEventV0Response,
        capture_track(CaptureTrackRequest) -> CaptureTrackResponse,
        capture_analytics(CaptureAnalyticsRequest) -> CaptureAnalyticsResponse,
        flags(FlagsRequest) -> FlagsResponse,
        decide(DecideRequest) -> DecideResponse,
        capture_config(CaptureConfigRequest) -> CaptureConfigResponse,
    }

    async fn capture_batch(
        &self,
        request: CaptureBatchRequest,
    ) -> Result<CaptureBatchResponse, EchoError> {
        let RawBody {
            bytes,
            content_encoding,
            ..
        } = request.raw;
        if bytes.is_empty() {
            return Err(EchoError::called(
                "capture_batch",
                format!("{content_encoding:?}"),
            ));
        }
        let status = types::CaptureAnswerStatus::Ok;
        Ok(CaptureBatchResponse::Status200(types::CaptureAnswer {
            status,
        }))
    }
}

impl CatalogueApi for Echo {
    echo! {
        event_definitions_list(EventDefinitionsListRequest) -> EventDefinitionsListResponse,
        property_definitions_list(PropertyDefinitionsListRequest) -> PropertyDefinitionsListResponse,
        events_values_retrieve(EventsValuesRetrieveRequest) -> EventsValuesRetrieveResponse,
    }
}

impl ConsoleApi for Echo {
    echo_without_key! {
        console_session_create(ConsoleSessionCreateRequest) -> ConsoleSessionCreateResponse,
    }
}

impl WebhooksApi for Echo {
    echo! {
        webhooks_list(WebhooksListRequest) -> WebhooksListResponse,
        webhooks_create(WebhooksCreateRequest) -> WebhooksCreateResponse,
        webhooks_activity_retrieve(WebhooksActivityRetrieveRequest) -> WebhooksActivityRetrieveResponse,
        webhooks_retrieve(WebhooksRetrieveRequest) -> WebhooksRetrieveResponse,
        webhooks_partial_update(WebhooksPartialUpdateRequest) -> WebhooksPartialUpdateResponse,
        webhooks_destroy(WebhooksDestroyRequest) -> WebhooksDestroyResponse,
        webhooks_deliveries(WebhooksDeliveriesRequest) -> WebhooksDeliveriesResponse,
        webhooks_test(WebhooksTestRequest) -> WebhooksTestResponse,
        webhooks_replay(WebhooksReplayRequest) -> WebhooksReplayResponse,
        webhooks_rotate_secret(WebhooksRotateSecretRequest) -> WebhooksRotateSecretResponse,
    }
}
