-- version: 1
-- The greatest fencing token of each resource; looked_at is in seconds since 1970.
create table holdfast_fence (
    resource text primary key,
    token integer not null,
    looked_at real not null
) without rowid;

create index holdfast_fence_looked_at on holdfast_fence (looked_at);
