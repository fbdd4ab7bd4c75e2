-- version: 1
create table holdfast_counter (name text primary key, value bigint not null);
