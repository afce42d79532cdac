-- Parks a stream entry that can never be handed over as a dead letter of the service: XACK is the gate.
-- KEYS[1] events (STREAM)  KEYS[2] dead (HASH)  KEYS[3] dead index (ZSET)  KEYS[4] counters (HASH)
-- ARGV[1] group  ARGV[2] position  ARGV[3] dead letter id  ARGV[4] dead letter (JSON)
-- Returns 1 if this call parked it, 0 if not.
--#include _time.lua
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('ZADD', KEYS[3], digits(now_ms()), ARGV[3])
redis.call('HINCRBY', KEYS[4], 'parked', 1)
return 1
