-- version: 1
-- The greatest fencing token of each resource.
create table holdfast_fence (
    resource text primary key,
    token bigint not null,
    looked_at timestamptz not null
) with (fillfactor = 70);

create index holdfast_fence_looked_at on holdfast_fence (looked_at);
