drop index calculations_failed;
