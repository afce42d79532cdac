#!lua flags=allow-oom
-- Parks a stream entry that can never be handed over as a dead letter of the service: XACK is the gate.
-- KEYS[1] events (STREAM)  KEYS[2] dead (HASH)  KEYS[3] dead index (ZSET)  KEYS[4] dead entries (HASH)
-- KEYS[5] dead services (SET)  KEYS[6] counters (HASH)
-- ARGV[1] group, which is the service  ARGV[2] position  ARGV[3] dead letter id  ARGV[4] dead letter (JSON)
-- ARGV[5] dead letters kept  ARGV[6] the entry's field e ('' for none)
-- Returns 1 if this call parked it, 0 if not.
--#include _write.lua
--#include _time.lua
--#include _dead.lua
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
local parts = {}
if ARGV[6] ~= '' then parts.e = ARGV[6] end
park({ dead = KEYS[2], index = KEYS[3], entries = KEYS[4], services = KEYS[5], service = ARGV[1], kept = ARGV[5],
  now = now_ms(), id = ARGV[3], letter = ARGV[4], parts = parts })
write('HINCRBY', KEYS[6], 'parked', 1)
return 1
