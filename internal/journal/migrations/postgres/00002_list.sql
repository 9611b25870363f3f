-- +goose Up
ALTER TABLE journal ADD COLUMN list_number BIGINT; -- the row's number in its subject's list, from 1 without gaps; NULL if it is in none
ALTER TABLE journal ADD COLUMN list_previous BYTEA; -- leaf hash of the one before it in the list; NULL for the first
