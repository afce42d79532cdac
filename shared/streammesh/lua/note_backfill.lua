#!lua flags=allow-oom
-- Says what a backfill waits for, to whoever looks at it.
-- KEYS row (HASH, of the backfill)
-- ARGS waits (in words)
-- Returns 1 where it runs, else 0.
if redis.call('HGET', row, 'state') ~= 'running' then return 0 end
redis.call('HSET', row, 'waits', waits)
return 1
