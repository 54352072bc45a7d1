alter table member_chunks alter column members set storage external;
