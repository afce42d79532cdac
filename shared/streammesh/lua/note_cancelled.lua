#!lua flags=allow-oom
-- Notes which tasks an event cancelled, and answers all that are noted of it.
-- KEYS canceller (HASH, which event cancels)
-- ARGS event (its id), most (tasks that are noted), tasks (ids)
-- Returns their ids.
--#include _write.lua
local room = most - write('HLEN', canceller)
for _, task in ipairs(tasks) do
  if room <= 0 or redis.call('EXISTS', canceller) == 0 then break end
  room = room - redis.call('HSET', canceller, 'task:' .. task, event)
end
local noted, all = {}, redis.call('HGETALL', canceller)
for i = 1, #all, 2 do
  local task = string.match(all[i], '^task:(.+)$')
  if task and all[i + 1] == event then noted[#noted + 1] = task end
end
return noted
