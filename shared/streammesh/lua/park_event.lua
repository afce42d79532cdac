#!lua flags=allow-oom
-- Parks a stream entry that can never be handed over as a dead letter of the service: XACK is the gate.
-- A lane that was given it before the router left the service to its lanes is given it once more: it is parked already.
-- KEYS events (STREAM), dead (HASH), index (ZSET), entries (HASH), services (SET), counters (HASH)
-- ARGS service (which the group is called after), position, letter_id, letter (JSON), kept (dead letters),
--   envelope (the entry's field e, '' for none)
-- Returns 1 if this call parked it, 0 if not.
--#include _write.lua
--#include _time.lua
--#include _dead.lua
if redis.call('XACK', events, service, position) == 0 or redis.pcall('HEXISTS', dead, letter_id) == 1 then return 0 end
local parts = {}
if envelope ~= '' then parts.e = envelope end
park({ dead = dead, index = index, entries = entries, services = services, service = service, kept = kept,
  now = now_ms(), id = letter_id, letter = letter, parts = parts })
write('HINCRBY', counters, 'parked', 1)
return 1
