//! The service of Petstore.

use std::sync::Mutex;

use actix_web::http::StatusCode;
use actix_web::{App, HttpServer, web};
use petstore::prelude::pets::*;
use petstore::types::{Error, Pet};
use petstore::{Api, BASE_PATH, Rejection, configure};

pub struct Store(pub Mutex<Vec<Pet>>);

impl Api for Store {
    type Caller = ();
    type Error = Rejection;

    fn reject(&self, rejection: Rejection) -> Rejection {
        rejection
    }
}

type Reply<T> = Result<T, Rejection>;

impl PetsApi for Store {
    async fn list_pets(&self, call: ListPetsRequest) -> Reply<ListPetsResponse> {
        let limit = call.query.limit.unwrap_or(100).max(0) as usize;
        let page = self.0.lock().unwrap().iter().take(limit).cloned().collect();
        Ok(ListPetsResponse::Status200(page, Default::default()))
    }

    async fn create_pets(&self, call: CreatePetsRequest) -> Reply<CreatePetsResponse> {
        self.0.lock().unwrap().push(call.body);
        Ok(CreatePetsResponse::Status201)
    }

    async fn show_pet_by_id(&self, call: ShowPetByIdRequest) -> Reply<ShowPetByIdResponse> {
        let pets = self.0.lock().unwrap();
        let pet = pets
            .iter()
            .find(|pet| pet.id.to_string() == call.path.pet_id);
        let message = "There is no such pet.".to_owned();
        Ok(match pet {
            Some(pet) => ShowPetByIdResponse::Status200(pet.clone()),
            None => {
                ShowPetByIdResponse::Default(StatusCode::NOT_FOUND, Error { code: 404, message })
            }
        })
    }
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let store = web::Data::new(Store(Mutex::default()));
    let app = move || {
        let pets = web::scope(BASE_PATH).configure(configure::<Store>);
        App::new().app_data(store.clone()).service(pets)
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
