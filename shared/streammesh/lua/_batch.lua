-- Batches of a subscription (`batch`), a part of _flow.lua: who starts takes those behind it in the line along.
-- Its row names them (`batch`), theirs name it (`run`) and say `queued`, and only it has a place and a queue entry. Those that
-- it has not ended when it ends, or comes back, stand in line again (`scatter`). A row with `alone` is taken along by nobody,
-- and takes nobody.
local MOST_OF_A_BATCH = 4194304  -- bytes of its queue entries together

-- Whether what stands at this place of a line is to be a run of its own, and waits for nobody.
local function is_alone(f, member)
  return redis.call('HEXISTS', f.prefix .. 'task:' .. (string.match(member, ' (%S*)$') or ''), 'alone') == 1
end

-- Has those behind a task in its key's line go with it, as many as one run may have; answers how many.
local function take_along(f, key, task, row_key)
  local mine = redis.call('HMGET', row_key, 'alone', 'cancel', 'expires')
  if mine[1] or mine[2] or mine[3] and (tonumber(mine[3]) or 0) < f.now then return 0 end
  local bytes, taken = redis.call('HSTRLEN', row_key, 'b'), {}
  for _, member in ipairs(write('ZRANGEBYLEX', f.line, '[' .. key .. '\0', '(' .. key .. '\1', 'LIMIT', 0, f.batch - 1)) do
    local other = string.match(member, ' (%S*)$') or ''
    local other_key = f.prefix .. 'task:' .. other
    local row = redis.pcall('HMGET', other_key, 'state', 'to', 'alone', 'cancel', 'expires')
    if row.err or row[1] ~= 'pending' or not row[2] then
      write('ZREM', f.line, member)  -- its reconciler puts it in again
    else
      if row[3] or row[4] or row[5] and (tonumber(row[5]) or 0) < f.now then break end  -- it is the next to start, by itself
      bytes = bytes + redis.call('HSTRLEN', other_key, 'b')
      if bytes > MOST_OF_A_BATCH then break end
      write('ZREM', f.line, member)
      redis.call('HSET', other_key, 'state', 'queued', 'run', task)
      taken[#taken + 1] = other
    end
  end
  if #taken > 0 then redis.call('HSET', row_key, 'batch', table.concat(taken, ' ')) end
  return #taken
end

-- Has a task wait until as many of its key stand in line as one run may have, or the first has waited `linger`.
local function gather(f, key, rank, member)
  local waits = flow_head(f, key)
  write('ZADD', f.line, 0, member)
  local is_enough = flow_waiting(f, key) >= f.batch or is_alone(f, member)
  if not waits and not is_enough then
    flow_sleep(f, key, f.now + f.linger)
  elseif is_enough and has_room(f, key) then
    write('ZREM', f.slow, key)
    make_ready(f, key, rank)
  end
end

-- Puts those that a task took along, and that have not ended, back into their line. `alone`: each is a run of its own then.
local function scatter(f, row_key, task, alone)
  local others = redis.call('HGET', row_key, 'batch')
  if not others then return end
  redis.call('HDEL', row_key, 'batch', 'h', 'b', 'to', 'u')
  for other in string.gmatch(others, '%S+') do
    local other_key = f.prefix .. 'task:' .. other
    local row = redis.pcall('HMGET', other_key, 'state', 'run', 'flow')
    local name, key, rank = string.match(not row.err and row[3] or '', '^(%Z+)%z(%Z*)%z(%Z+)$')
    if name == f.name and row[1] == 'queued' and row[2] == task then
      redis.call('HDEL', other_key, 'run')
      redis.call('HSET', other_key, 'state', 'pending')
      if alone then redis.call('HSET', other_key, 'alone', 1) end
      if f.batch then
        gather(f, key, rank, key .. '\0' .. rank .. ' ' .. other)
      else
        write('ZADD', f.line, 0, key .. '\0' .. rank .. ' ' .. other)
        make_ready(f, key, rank)
      end
    end
  end
end
