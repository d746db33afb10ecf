"""A peer to measure beside: the same routes with FastAPI Users, as its documentation shows it: users in SQLite through
SQLAlchemy, tokens in Redis, bcrypt for passwords, two workers of uvicorn. Redis and SQLite are asked about each request."""

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import redis.asyncio
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordRequestForm
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, RedisStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.exceptions import UserAlreadyExists
from fastapi_users.password import PasswordHelper
from fastapi_users.schemas import BaseUserCreate
from pwdlib import PasswordHash
from pwdlib.hashers.bcrypt import BcryptHasher
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

SECRET = os.environ["JWT_SECRET"]
MAIL = "@example.com"

engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ['DATA']}/users.sqlite")
async_session_maker = async_sessionmaker(engine, expire_on_commit=False)
tokens = redis.asyncio.from_url(os.environ["REDIS_URL"], decode_responses=True)
password_helper = PasswordHelper(PasswordHash((BcryptHasher(rounds=int(os.environ["BCRYPT_COST"])),)))


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    pass


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


class Credentials(BaseModel):
    username: str
    password: str


async def create_tables():
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


async def get_session() -> AsyncGenerator[AsyncSession, None]:
    async with async_session_maker() as session:
        yield session


async def get_user_db(session: AsyncSession = Depends(get_session)):
    yield SQLAlchemyUserDatabase(session, User)


async def get_user_manager(user_db: SQLAlchemyUserDatabase = Depends(get_user_db)):
    yield UserManager(user_db, password_helper)


def get_strategy() -> RedisStrategy:
    return RedisStrategy(tokens, lifetime_seconds=3600)


backend = AuthenticationBackend(name="redis", transport=BearerTransport(tokenUrl="login"), get_strategy=get_strategy)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [backend])
current_active_user = fastapi_users.current_user(active=True)
current_token = fastapi_users.authenticator.current_user_token(active=True)


@asynccontextmanager
async def lifespan(app: FastAPI):
    yield
    await tokens.aclose()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/register", status_code=201)
async def register(credentials: Credentials, user_manager: UserManager = Depends(get_user_manager)):
    user = BaseUserCreate(email=credentials.username + MAIL, password=credentials.password)
    try:
        await user_manager.create(user, safe=True)
    except UserAlreadyExists:
        raise HTTPException(409, "taken")
    return {"message": "registered"}


@app.post("/login")
async def login(
    credentials: Credentials,
    user_manager: UserManager = Depends(get_user_manager),
    strategy: RedisStrategy = Depends(backend.get_strategy),
):
    form = OAuth2PasswordRequestForm(username=credentials.username + MAIL, password=credentials.password)
    user = await user_manager.authenticate(form)
    if user is None or not user.is_active:
        raise HTTPException(401, "Invalid credentials")
    return {"token": await strategy.write_token(user)}


@app.get("/dashboard")
async def dashboard(user: User = Depends(current_active_user)):
    username = user.email.removesuffix(MAIL)
    return {"message": f"Welcome {username}", "data": {"username": username}}


@app.post("/logout", status_code=204)
async def logout(
    user_token: tuple[User, str] = Depends(current_token), strategy: RedisStrategy = Depends(backend.get_strategy)
):
    return await backend.logout(strategy, *user_token)


if __name__ == "__main__":
    asyncio.run(create_tables())
    uvicorn.run("server:app", host="127.0.0.1", port=int(os.environ["PORT"]), workers=2, access_log=False)
