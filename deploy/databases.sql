-- Run once by the image of PostgreSQL, when its volume is empty. The database `dagster` is made by the image itself.
create database ledger encoding 'UTF8' template template0;
