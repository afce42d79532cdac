#!lua flags=allow-oom
-- Parks a queue entry that must never be run as a dead letter of its service: XACK is the gate.
-- KEYS[1] queue (STREAM)  KEYS[2] dead (HASH)  KEYS[3] dead index (ZSET)  KEYS[4] dead entries (HASH)
-- KEYS[5] dead services (SET)  KEYS[6] counters (HASH)
-- ARGV[1] group  ARGV[2] id  ARGV[3] dead letter id  ARGV[4] dead letter (JSON)  ARGV[5] dead letters kept
-- ARGV[6] service
-- ARGV[7] h, ARGV[8] b of what another broker carries and no entry stands for ('' for none): then there is no gate, and
-- a repeat writes the same letter once more
-- Returns 1 if this call parked it, 0 if it was not pending any more.
--#include _write.lua
--#include _time.lua
--#include _entry.lua
--#include _dead.lua
local h, b = ARGV[7], ARGV[8]
if h == '' then
  if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
  h, b = queued_fields(KEYS[1], ARGV[2])
  redis.call('XDEL', KEYS[1], ARGV[2])
end
park({ dead = KEYS[2], index = KEYS[3], entries = KEYS[4], services = KEYS[5], service = ARGV[6], kept = ARGV[5],
  now = now_ms(), id = ARGV[3], letter = ARGV[4], parts = { h = h, b = b } })
write('HINCRBY', KEYS[6], 'parked', 1)
return 1
