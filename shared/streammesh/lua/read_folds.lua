#!lua flags=allow-oom
-- Answers which tasks of a subscription runs took with them (`debounce`): they are to end as folded. A run that has taken all
-- is forgotten, and the subscription with the last one.
-- KEYS line (ZSET), runs (ZSET), folding (SET)
-- ARGS name (of the task), most (tasks that are answered, and runs that are looked at)
-- Returns {whether runs are left (1 or 0), member of the line, task of the run that took it, ...}.
--#include _write.lua
local out, left, begin, before = { 0 }, most, '-', nil
while left > 0 do
  local run = write('ZRANGEBYLEX', runs, begin, '+', 'LIMIT', 0, 1)[1]
  if not run then break end
  local key, task = string.match(run, '^(%Z*)%z.* (%S*)$')
  -- What another run of the key took before is that one's.
  local from = before and string.match(before, '^(%Z*)%z') == key and '(' .. before or '[' .. (key or '') .. '\0'
  local taken = key and write('ZRANGEBYLEX', line, from, '(' .. run, 'LIMIT', 0, left) or {}
  for _, member in ipairs(taken) do
    out[#out + 1], out[#out + 2] = member, task
  end
  if #taken == 0 then write('ZREM', runs, run) end
  left, begin, before = left - math.max(#taken, 1), '(' .. run, run
end
if redis.call('EXISTS', runs) == 1 then out[1] = 1 else redis.call('SREM', folding, name) end
return out
