-- Sets a task of a paused subscription aside: its queue entry moves to the stream where they wait.
-- h = {row, queue, held, holding, name, task, group, entry, lost}
-- Answers whether there was an entry to move.
--#include _write.lua
local function hold(h)
  local found = redis.call('XRANGE', h.queue, h.entry, h.entry)
  if #found == 0 then return false end
  local place = write('XADD', h.held, '*', 'k', h.task, unpack(found[1][2]))
  redis.call('HSET', h.row, 'state', 'held', 'held', place, 'entry', '', 'lease', '0', 'lost', h.lost)
  write('SADD', h.holding, h.name)
  redis.call('XACK', h.queue, h.group, h.entry)
  redis.call('XDEL', h.queue, h.entry)
  return true
end
