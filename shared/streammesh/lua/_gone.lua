-- Takes entries out of a queue and of its pending list, with one command where the server has it (Redis 8.2).
-- Answers how many were pending.
local function gone(stream, group, entries)
  if (redis.REDIS_VERSION_NUM or 0) < 0x080200 then
    local acked = redis.call('XACK', stream, group, unpack(entries))
    redis.call('XDEL', stream, unpack(entries))
    return acked
  end
  local others = {}
  for i, answer in ipairs(redis.call('XACKDEL', stream, group, 'IDS', #entries, unpack(entries))) do
    if answer == -1 then others[#others + 1] = entries[i] end  -- in nobody's hands, and left where it was
  end
  if #others > 0 then redis.call('XDEL', stream, unpack(others)) end
  return #entries - #others
end
