#!lua flags=allow-oom
-- Adds, changes and removes schedules, each only if it still is what it was when the change was planned.
-- KEYS schedules (HASH), schedules_due (ZSET)
-- changes: ARGS name, expected (the entry, '' when there was none), entry (to store, '' to remove it),
--   position (ms, 'keep', 'none')
-- Returns 1 or 0 per change: whether it was made.
local out = {}
for _, change in ipairs(changes) do
  local name, entry, position = change.name, change.entry, change.position
  local made = (redis.call('HGET', schedules, name) or '') == change.expected
  if made then
    if entry == '' then
      redis.call('HDEL', schedules, name)
    else
      redis.call('HSET', schedules, name, entry)
    end
    if position == 'none' then
      redis.call('ZREM', schedules_due, name)
    elseif position ~= 'keep' then
      redis.call('ZADD', schedules_due, position, name)
    end
  end
  out[#out + 1] = made and 1 or 0
end
return out
