use std::sync::Mutex;

use actix_web::http::StatusCode;
use actix_web::{App, HttpServer, web};
use petstore::prelude::pets::*;
use petstore::types::{Error, Pet};
use petstore::{Api, BASE_PATH, Rejection, configure};

pub struct Store(Mutex<Vec<Pet>>);

impl Api for Store {
    type Caller = ();
    type Error = Rejection;

    fn reject(&self, rejection: Rejection) -> Rejection {
        rejection
    }
}

impl PetsApi for Store {
    async fn list_pets(&self, request: ListPetsRequest) -> Result<ListPetsResponse, Rejection> {
        let limit = request.query.limit.unwrap_or(100).max(0) as usize;
        let pets = self.0.lock().unwrap();
        let page = pets.iter().take(limit).cloned().collect();
        Ok(ListPetsResponse::Status200(page, ListPetsStatus200Headers::default()))
    }

    async fn create_pets(&self, request: CreatePetsRequest) -> Result<CreatePetsResponse, Rejection> {
        self.0.lock().unwrap().push(request.body);
        Ok(CreatePetsResponse::Status201)
    }

    async fn show_pet_by_id(&self, request: ShowPetByIdRequest) -> Result<ShowPetByIdResponse, Rejection> {
        let pets = self.0.lock().unwrap();
        let pet = pets.iter().find(|pet| pet.id.to_string() == request.path.pet_id);
        Ok(match pet {
            Some(pet) => ShowPetByIdResponse::Status200(pet.clone()),
            None => {
                let message = "There is no such pet.".to_owned();
                ShowPetByIdResponse::Default(StatusCode::NOT_FOUND, Error { code: 404, message })
            }
        })
    }
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let store = web::Data::new(Store(Mutex::default()));
    HttpServer::new(move || {
        let pets = web::scope(BASE_PATH).configure(configure::<Store>);
        App::new().app_data(store.clone()).service(pets)
    })
    .bind("127.0.0.1:8080")?
    .run()
    .await
}
