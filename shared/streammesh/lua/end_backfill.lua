#!lua flags=allow-oom
-- Ends a backfill before its time. What it handed over stays.
-- KEYS row (HASH, of the backfill), running (HASH, service -> id)
-- ARGS id, service, state ('stopped' or 'failed'), reason, lifetime (of the row from now on, ms)
-- Returns 1 where it ended by this, 0 where it had ended.
--#include _time.lua
if redis.call('HGET', running, service) == id then redis.call('HDEL', running, service) end
if redis.call('HGET', row, 'state') ~= 'running' then return 0 end
redis.call('HSET', row, 'state', state, 'reason', reason, 'ended', digits(now_ms()), 'waits', '')
redis.call('PEXPIRE', row, lifetime)
return 1
