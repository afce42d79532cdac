#!lua flags=allow-oom
-- Adds, changes and removes schedules, each only if it still is what it was when the change was planned.
-- KEYS[1] schedules (HASH)  KEYS[2] schedules_due (ZSET)
-- ARGV per change: name, entry expected ('' when there was none), entry to store ('' to remove it),
--   position (ms, 'keep', 'none')
-- Returns 1 or 0 per change: whether it was made.
local out = {}
for a = 1, #ARGV, 4 do
  local name, entry, position = ARGV[a], ARGV[a + 2], ARGV[a + 3]
  local made = (redis.call('HGET', KEYS[1], name) or '') == ARGV[a + 1]
  if made then
    if entry == '' then
      redis.call('HDEL', KEYS[1], name)
    else
      redis.call('HSET', KEYS[1], name, entry)
    end
    if position == 'none' then
      redis.call('ZREM', KEYS[2], name)
    elseif position ~= 'keep' then
      redis.call('ZADD', KEYS[2], position, name)
    end
  end
  out[#out + 1] = made and 1 or 0
end
return out
