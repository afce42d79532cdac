#!lua flags=allow-oom
-- Parks a queue entry that must never be run as a dead letter of its service: XACK is the gate.
-- KEYS queue (STREAM), dead (HASH), index (ZSET), entries (HASH), services (SET), counters (HASH)
-- ARGS group, id, letter_id, letter (JSON), kept (dead letters), service, h,
--   b (these two of what another broker carries and no entry stands for, '' for none: then there is no gate, and a repeat
--   writes the same letter once more)
-- Returns 1 if this call parked it, 0 if it was not pending any more.
--#include _write.lua
--#include _time.lua
--#include _entry.lua
--#include _dead.lua
if h == '' then
  if redis.call('XACK', queue, group, id) == 0 then return 0 end
  h, b = queued_fields(queue, id)
  redis.call('XDEL', queue, id)
end
park({ dead = dead, index = index, entries = entries, services = services, service = service, kept = kept,
  now = now_ms(), id = letter_id, letter = letter, parts = { h = h, b = b } })
write('HINCRBY', counters, 'parked', 1)
return 1
